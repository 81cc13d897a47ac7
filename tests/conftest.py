"""Settings of all tests."""

import os

from hypothesis import settings

# A run of CI decides whether a change lands, so there it repeats the same examples; at a desk they are new each time.
# Nowhere does time decide: a busy machine is no bug.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
