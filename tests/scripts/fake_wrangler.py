#!/usr/bin/env python3
"""Stands for wrangler in tests: remembers in a file what was made, and fails as the real one does.

FAKE_WRANGLER_STATE names the file: {"calls": [[argument, …], …], "stdin": [text, …], "made": [name, …],
"fails": [first word of a call, or the whole call, …]}. Its Worker is there once it has a secret.
"""

import json
import os
import sys
from pathlib import Path

state_file = Path(os.environ["FAKE_WRANGLER_STATE"])
state = json.loads(state_file.read_text())
arguments = sys.argv[1:]
state["calls"].append(arguments)
words = [word for word in arguments if not word.startswith("-")]


def end(output: str, code: int = 0) -> None:
    state_file.write_text(json.dumps(state))
    print(output, file=sys.stderr if code else sys.stdout)
    sys.exit(code)


if words[0] in state["fails"] or " ".join(words) in state["fails"]:
    end("✘ [ERROR] A request to the Cloudflare API failed. Authentication error [code: 10000]", 1)
match words:
    case ["whoami"]:
        end('{"loggedIn": true}')
    case ["vectorize", "create", name] | ["r2", "bucket", "create", name] | ["queues", "create", name]:
        state["made"].append(name)
        end(f"Created {name}")
    case ["vectorize", "create-metadata-index", name]:
        state["made"].append(f"{name}/metadata")
        end("Enqueued")
    case ["vectorize", "list-metadata-index", name]:
        end('[{"propertyName": "context", "indexType": "String"}]' if f"{name}/metadata" in state["made"] else "[]")
    case ["vectorize", "get", name] if name in state["made"]:
        end(json.dumps({"name": name, "config": {"dimensions": state["dimensions"], "metric": "cosine"}}))
    case ["r2", "bucket", "info", name] | ["queues", "info", name] if name in state["made"]:
        end(f"name: {name}")
    case ["r2", "bucket", "lifecycle", "list", _]:
        end("\n".join(state["made"]))
    case ["r2", "bucket", "lifecycle", "add", _, rule, _]:
        state["made"].append(rule)
        end(f"Added lifecycle rule {rule}")
    case ["secret", "put", name]:
        state["made"].append(name)
        state["stdin"].append(sys.stdin.read())
        end(f"Success! Uploaded secret {name}")
    case ["secret", "list", "json"]:
        if not any(name.isupper() for name in state["made"]):
            end('✘ [ERROR] Worker "near" not found.\n\n  If this is a new Worker, run `wrangler deploy` first.', 1)
        end(json.dumps([{"name": name, "type": "secret_text"} for name in state["made"] if name.isupper()]))
    case ["kv", "key", "put", name, value, "KEYS"]:
        state["kv"][name] = value
        end(f'Writing the value "{value}" to key "{name}" on namespace KEYS.')
    case ["kv", "key", "get", name, "KEYS"] if name in state["kv"]:
        end(state["kv"][name])
    case ["kv", "key", "list", prefix, "KEYS"]:
        end(json.dumps([{"name": name} for name in state["kv"] if name.startswith(prefix)]))
    case ["kv", "key", "delete", name, "KEYS"]:
        state["kv"].pop(name, None)
        end(f'Deleting the key "{name}" on namespace KEYS.')
    case ["kv", "key", "get", *_]:
        end("✘ [ERROR] A request to the Cloudflare API failed. key not found [code: 10009]", 1)
    case _:
        end("✘ [ERROR] not found [code: 10007]", 1)
