"""What a tenant may spend in a day and a month: reserved before a model is asked, settled after (docs/budgets.md)."""
