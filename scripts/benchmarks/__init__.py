"""scripts/bench: what one machine measures, in one run."""
