"""Exact cache: the same canonical request of the same tenant gets the stored answer, plain or as a stream.

HTTP rules: RFC 9111 (request directives), RFC 5861 (stale answers), RFC 9211 (`Cache-Status`). Users: docs/caches.md.
"""
