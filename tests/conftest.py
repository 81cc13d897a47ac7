"""Settings of all tests."""

import os

from hypothesis import settings

# A run of CI decides whether a change lands, so there it repeats the same examples; at a desk they are new each time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
