"""Serves TensorZero's gateway over HTTP from its Python wheel: the Rust code of its server, embedded in this process.

python tensorzero_gateway.py CONFIG.toml

The wheel has no binary of its own; `patch_openai_client` starts the same embedded server for an OpenAI client. Python
only waits here. Prints one JSON line {"url"}; ends with its standard input.
"""

import json
import sys

from tensorzero.tensorzero import _start_http_gateway  # type: ignore[import-not-found]  # in its own venv

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(json.dumps({"url": gateway.base_url.removesuffix("/openai/v1")}), flush=True)
sys.stdin.read()
