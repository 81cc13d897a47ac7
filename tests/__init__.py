"""Tests, one folder per part of the tree. `fakes.py` implements every port of the core."""
