"""Decides how a request is answered: pure Python without I/O, the same on CPython and in the Worker."""

__version__ = "0.1.0"
