"""Semantic cache: finds the stored answer of a question that asks the same in other words. docs/semantic-cache.md."""
