"""What all locations saw lately: recorded in isolates, kept by one object a location, merged when somebody looks."""
