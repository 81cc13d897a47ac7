"""The core on plain CPython: every port is a fake, nothing sleeps."""
