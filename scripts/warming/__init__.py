"""scripts/warm: the cache filled before a launch."""
