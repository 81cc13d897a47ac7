"""Chaos, storm and soak: constant load on the local stack while its parts fail, judged request by request."""
