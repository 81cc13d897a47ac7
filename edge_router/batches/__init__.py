"""Offline batches in OpenAI's shapes: files of requests, answered behind a queue, told when they are done."""
