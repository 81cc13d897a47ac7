"""FastAPI service that answers what the edge should not: a relay to an OpenAI-compatible upstream."""

__version__ = "0.1.0"
