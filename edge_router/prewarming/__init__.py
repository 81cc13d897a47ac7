"""Hot entries of the exact cache are refreshed before they are stale (docs/prewarming.md)."""
