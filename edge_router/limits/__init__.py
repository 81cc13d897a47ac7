"""How often, and how much at a time, a tenant may ask: counted by each isolate, or by one object for the world."""
