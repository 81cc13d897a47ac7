"""scripts/keys: API keys of scripts/dev and of a deployment."""
