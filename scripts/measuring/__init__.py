"""scripts/measure: models and endpoints compared, timed at the client."""
