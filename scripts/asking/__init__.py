"""scripts/ask: real prompts through a running gateway, timed at the client."""
