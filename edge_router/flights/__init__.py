"""One call for many callers who ask the same at the same time: what of it needs no runtime."""
