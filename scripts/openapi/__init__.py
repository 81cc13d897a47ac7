"""The API as OpenAPI 3.1 documents, made from the code: `python -m scripts.openapi`."""
