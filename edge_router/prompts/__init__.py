"""What may be done to a prompt before it is sent, for requests and tenants that ask for it: docs/prompts.md."""
