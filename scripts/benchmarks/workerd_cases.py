"""What is measured on workerd alone: our Worker beside the smallest Workers, and the request each one gets."""

import fnmatch
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_router.auth import hash_secret
from scripts.local.worker_spec import DEVELOPMENT_FLAGS, ROOT

WORKERS = Path(__file__).parent / "workers"
STAGED = ROOT / "build" / "worker"
VENDORED = ROOT / "python_modules"

OPEN, FROM_KV, KEYED, STREAMS = "nearside-open", "nearside-kv", "nearside-keys", "nearside-streams"
UNRECORDED, PASSING = "nearside-unrecorded", "nearside-passing"
FORWARDER = "python-forwarder"
SDK_HELLO = "python-hello-sdk"

PINNED = "gpt-4o-mini"  # of the catalog, and the cloud's

UNIQUE = "[<id>]"  # in a body: becomes another text with each request (autocannon's word for it)

SECRET = "benchmarks" * 4
KEY = f"nsk_bench_{SECRET}"
# The same for tenants whose requests are counted before they are answered, each in a Durable Object of its own.
COUNTED: dict[str, dict[str, Any]] = {
    "budget": {"budget": {"usd_day": 100_000}},
    "limits": {"limits": {"requests_per_minute": 1_000_000, "concurrency": 10_000, "strict": True}},
}

# As much as production sends with every request: reading it is part of the work.
CF = {
    "asOrganization": "Example Telecom", "asn": 3215, "city": "Paris", "clientAcceptEncoding": "",
    "clientTcpRtt": 11, "colo": "CDG", "continent": "EU", "country": "FR", "edgeRequestKeepAliveStatus": 1,
    "httpProtocol": "HTTP/2", "isEUCountry": "1", "latitude": "48.85341", "longitude": "2.34880",
    "postalCode": "75001", "region": "Île-de-France", "regionCode": "IDF", "requestPriority": "weight=192;exclusive=0",
    "timezone": "Europe/Paris", "tlsCipher": "AEAD-AES128-GCM-SHA256", "tlsVersion": "TLSv1.3",
    "tlsClientRandom": "bU8V0bJ3T0nV1Gk0mQ0xk3m2e5v0m6cJXo1n2c3v4b5=", "tlsClientHelloLength": "508",
    "tlsClientAuth": {"certPresented": "0", "certVerified": "NONE", "certRevoked": "0", "certIssuerDN": ""},
    "tlsExportedAuthenticator": {
        "clientFinished": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "clientHandshake": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "serverFinished": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "serverHandshake": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
}  # fmt: skip

CHAT = json.dumps(
    {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "You answer in one short sentence."},
            {"role": "user", "content": "What is the capital of France, and which river runs through it?"},
        ],
        "max_tokens": 160,
    },
    separators=(",", ":"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One request, sent over and over to one server.

    needs_hit: it must come from the cache. needs_upstream: from a model, which the quick upstream stands in for.
    """

    name: str
    says: str
    server: str
    method: str = "GET"
    path: str = "/"
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    needs_hit: bool = False
    needs_upstream: bool = False


# Long: a table.
def workerd_cases() -> list[Case]:
    """In the order of the table; the first is the floor that the others are compared with."""
    chat: dict[str, Any] = {"method": "POST", "path": "/v1/chat/completions", "body": CHAT, "needs_hit": True}
    cf = {"MF-CF-Blob": json.dumps(CF)}  # workerd reads `request.cf` from it and hides it from the Worker
    sent = {**cf, "content-type": "application/json"}
    signed_in = {**sent, "authorization": f"Bearer {KEY}"}

    return [
        Case(SDK_HELLO, "Python hello, the SDK's Response", SDK_HELLO, headers=cf),
        Case("python-hello-raw", "Python hello, a JavaScript Response", "python-hello-raw", headers=cf),
        Case("python-kv", "Python, one KV look-up, a JavaScript Response", "python-kv", headers=cf),
        Case("javascript-hello", "JavaScript hello", "javascript-hello", headers=cf),
        Case("cache-hit", "Nearside, exact-cache hit from KV", FROM_KV, headers=sent, **chat),
        Case("memory-hit", "Nearside, exact-cache hit from the isolate's memory", OPEN, headers=sent, **chat),
        Case("memory-hit-unrecorded", "the same, TELEMETRY = off", UNRECORDED, headers=sent, **chat),
        Case("health", "Nearside, GET /health", OPEN, path="/health", headers=cf),
        Case(
            "cache-hit-key",
            "Nearside, exact-cache hit from memory, with a key",
            KEYED,
            headers=signed_in,
            **chat,
        ),
        Case(
            FORWARDER,
            "the smallest Python Worker that passes a call on",
            FORWARDER,
            headers=sent,
            **_passed_on("cloud"),
        ),
        Case(
            "passed-on",
            "Nearside, a call passed on, its model named",
            PASSING,
            headers=signed_in,
            **_passed_on(PINNED),
        ),
        Case(
            "passed-on-routed",
            "Nearside, a call passed on, its model chosen among the cloud's",
            PASSING,
            headers=signed_in,
            **_passed_on("cloud"),
        ),
        *(
            Case(
                f"passed-on-{name}",
                f"Nearside, a call passed on, its model named, for a tenant with {name}",
                PASSING,
                headers={**sent, "authorization": f"Bearer nsk_{name}_{SECRET}"},
                **_passed_on(PINNED),
            )
            for name in COUNTED
        ),
        Case(
            "passed-on-stored",
            "Nearside, a call passed on, its answer stored",
            PASSING,
            headers={**signed_in, "cache-control": "no-cache"},
            **_passed_on(PINNED, use_cache=True),
        ),
        Case(
            "passed-on-shared",
            "the same, each question new, so that others may share it: a new Durable Object each",
            PASSING,
            headers=signed_in,
            **_passed_on(PINNED, use_cache=True, text=f"What is the capital of {UNIQUE}?"),
        ),
    ]


def _passed_on(model: str, *, use_cache: bool = False, text: str = "") -> dict[str, Any]:
    """What a case of a call to that model has. text: asked instead of the usual question."""
    asked = {**json.loads(CHAT), "model": model, "use_cache": use_cache}
    if text:
        asked["messages"][-1]["content"] = text
    body = json.dumps(asked, separators=(",", ":"))
    return {"method": "POST", "path": "/v1/chat/completions", "body": body, "needs_upstream": True}


def workerd_servers(upstream_url: str = "") -> dict[str, Any]:
    """The file that workers.mjs reads. Needs build/worker/ (scripts/stage) and python_modules/.

    upstream_url: of the model to which calls are passed on.
    """
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    flags = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    vendored = vendored_modules(config.get("python_modules", {}).get("exclude", []))
    python: dict[str, Any] = {"options": {"compatibilityFlags": flags}}
    record = {"key:bench": json.dumps({"tenant": "bench", "hashes": [hash_secret(SECRET)]})}
    counted = {
        f"key:{name}": json.dumps({"tenant": name, "hashes": [hash_secret(SECRET)], **more})
        for name, more in COUNTED.items()
    }
    return {
        "compatibilityDate": config["compatibility_date"],
        "servers": [
            server(SDK_HELLO, WORKERS, [_module(WORKERS / "hello_sdk.py", WORKERS), *vendored], **python),
            server("python-hello-raw", WORKERS, [_module(WORKERS / "hello_raw.py", WORKERS), *vendored], **python),
            server(
                "python-kv",
                WORKERS,
                [_module(WORKERS / "hello_kv.py", WORKERS), *vendored],
                options={"compatibilityFlags": flags, "kvNamespaces": ["CACHE"]},
                seed={"CACHE": {"hello": "hello" * 200}},
            ),
            server("javascript-hello", WORKERS, [_module(WORKERS / "hello.js", WORKERS)]),
            _nearside(OPEN, {"AUTH": "open"}, config, vendored, {}, flags),
            _nearside(UNRECORDED, {"AUTH": "open", "TELEMETRY": "off"}, config, vendored, {}, flags),
            _nearside(FROM_KV, {"AUTH": "open", "MEMORY_CACHE_MIB": 0}, config, vendored, {}, flags),
            _nearside(KEYED, {"AUTH": "keys"}, config, vendored, record, flags),
            server(
                FORWARDER,
                WORKERS,
                [_module(WORKERS / "forwarder.py", WORKERS), *vendored],
                options={"compatibilityFlags": flags, "bindings": {"UPSTREAM": upstream_url}},
            ),
            _nearside(
                PASSING,
                {"AUTH": "keys", "CLOUD_REGIONS": [{"id": "bench", "url": upstream_url}]},
                config,
                vendored,
                {**record, **counted},
                flags,
            ),
        ],
    }


def stream_servers(upstream_url: str) -> dict[str, Any]:
    """Our Worker with the paced upstream as its only region, and the smallest Python Worker that passes a body on."""
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    flags = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    vendored = vendored_modules(config.get("python_modules", {}).get("exclude", []))
    variables = {"AUTH": "open", "CLOUD_REGIONS": [{"id": "paced", "url": upstream_url}]}
    options = {"compatibilityFlags": flags, "bindings": {"UPSTREAM": upstream_url}}
    return {
        "compatibilityDate": config["compatibility_date"],
        "servers": [
            server(FORWARDER, WORKERS, [_module(WORKERS / "forwarder.py", WORKERS), *vendored], options=options),
            _nearside(STREAMS, variables, config, vendored, {}, flags),
        ],
    }


def nearside_server(name: str, variables: dict[str, Any], *, main: Path) -> dict[str, Any]:
    """The file that workers.mjs reads: our Worker's code behind another main module, which exports its classes too."""
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    flags = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    vendored = vendored_modules(config.get("python_modules", {}).get("exclude", []))
    worker = _nearside(name, variables, config, vendored, {}, flags)
    worker["modules"].insert(0, _module(main, main.parent))
    return {"compatibilityDate": config["compatibility_date"], "servers": [worker]}


def _nearside(
    name: str,
    variables: dict[str, Any],
    config: dict[str, Any],
    vendored: list[dict[str, str]],
    keys: dict[str, str],
    flags: list[str],
) -> dict[str, Any]:
    entry = STAGED / Path(config["main"]).name
    others = sorted(path for kind in ("*.py", "*.mjs") for path in STAGED.rglob(kind) if path != entry)
    return server(
        name,
        STAGED,
        [*(_module(path, STAGED) for path in (entry, *others)), *vendored],
        options={
            "compatibilityFlags": flags,
            "bindings": {**config["vars"], "RATE_LIMIT": "off", **variables},
            **_bindings(name, config),
        },
        services={binding: str(WORKERS / "stand_in.js") for binding in _stand_ins(config)},
        seed={"KEYS": keys} if keys else {},
    )


def _bindings(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Miniflare's own, in its words."""
    return {
        "kvNamespaces": {entry["binding"]: f"{name}-{entry['binding']}" for entry in config["kv_namespaces"]},
        "durableObjects": {
            entry["name"]: {"className": entry["class_name"], "useSQLite": True}
            for entry in config.get("durable_objects", {}).get("bindings", [])
        },
        "analyticsEngineDatasets": {
            entry["binding"]: {"dataset": entry["dataset"]} for entry in config.get("analytics_engine_datasets", [])
        },
        "r2Buckets": {entry["binding"]: entry["bucket_name"] for entry in config.get("r2_buckets", [])},
        "queueProducers": {entry["binding"]: entry["queue"] for entry in config.get("queues", {}).get("producers", [])},
    }


def _stand_ins(config: dict[str, Any]) -> list[str]:
    """Bindings to what is not measured. The rate limiter is off: miniflare's writes to SQLite, 1.6 ms a request."""
    limiters = [entry["name"] for entry in config.get("ratelimits", [])]
    vectors = [entry["binding"] for entry in config.get("vectorize", [])]
    return [config["ai"]["binding"], config["assets"]["binding"], *vectors, *limiters]


def server(name: str, root: Path, modules: list[dict[str, str]], **rest: Any) -> dict[str, Any]:
    return {
        "name": name,
        "modulesRoot": str(root),
        "modules": modules,
        "options": {},
        "services": {},
        "seed": {},
        **rest,
    }


def _module(path: Path, root: Path) -> dict[str, str]:
    kind = "PythonModule" if path.suffix == ".py" else "ESModule"
    return {"type": kind, "path": str(path.relative_to(root)), "file": str(path)}


def vendored_modules(exclude: list[str]) -> list[dict[str, str]]:
    """Named and typed as wrangler does: data, except the SDK's JavaScript."""
    modules = []
    for path in sorted(VENDORED.rglob("*")):
        name = path.relative_to(VENDORED).as_posix()
        if path.is_dir() or any(fnmatch.fnmatch("/" + name, pattern.replace("**", "*")) for pattern in exclude):
            continue
        kind = "ESModule" if name.startswith("workers/") and path.suffix in (".js", ".mjs") else "Data"
        modules.append({"type": kind, "path": f"python_modules/{name}", "file": str(path)})
    return modules


def gateway_servers(upstream_url: str, chain_url: str, chain_keys: str) -> dict[str, dict[str, Any]]:
    """Name -> what workers.mjs reads, one server each: our Worker and the floors, before `upstream_url`.

    chain_url: cloud_fallback's, before the same upstream. chain_keys: what calls to it are signed with.
    """
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    flags = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    vendored = vendored_modules(config.get("python_modules", {}).get("exclude", []))
    record = {"key:bench": json.dumps({"tenant": "bench", "hashes": [hash_secret(SECRET)]})}
    variables = {"AUTH": "keys", "CLOUD_REGIONS": [{"id": "bench", "url": upstream_url}]}
    chain = {
        "AUTH": "keys",
        "CLOUD_REGIONS": [{"id": "bench", "url": chain_url}],
        "FALLBACK_KEYS": chain_keys,
    }
    python: dict[str, Any] = {"compatibilityFlags": flags, "bindings": {"UPSTREAM": upstream_url}}
    javascript = {"bindings": {"UPSTREAM": upstream_url}}
    hello, forwarder = WORKERS / "hello_sdk.py", WORKERS / "forwarder.py"
    servers = [
        server(SDK_HELLO, WORKERS, [_module(hello, WORKERS), *vendored], options={"compatibilityFlags": flags}),
        server("javascript-hello", WORKERS, [_module(WORKERS / "hello.js", WORKERS)]),
        server(FORWARDER, WORKERS, [_module(forwarder, WORKERS), *vendored], options=python),
        server("javascript-forwarder", WORKERS, [_module(WORKERS / "forwarder.js", WORKERS)], options=javascript),
        _nearside("nearside", variables, config, vendored, record, flags),
        _nearside("nearside-kv", {**variables, "MEMORY_CACHE_MIB": 0}, config, vendored, record, flags),
        _nearside("nearside-chain", chain, config, vendored, record, flags),
    ]
    return {each["name"]: {"compatibilityDate": config["compatibility_date"], "servers": [each]} for each in servers}


def growth_server(upstream_url: str, keys: dict[str, str]) -> dict[str, Any]:
    """One Worker of ours before the upstream. keys: entries of the KV namespace KEYS."""
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    flags = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    vendored = vendored_modules(config.get("python_modules", {}).get("exclude", []))
    variables = {"AUTH": "keys", "CLOUD_REGIONS": [{"id": "bench", "url": upstream_url}]}
    return {
        "compatibilityDate": config["compatibility_date"],
        "servers": [_nearside("nearside", variables, config, vendored, keys, flags)],
    }


def memory_server(upstream_url: str) -> dict[str, Any]:
    """Our Worker with `workers/memory_entry.py` in front, which tells what the isolate holds."""
    spec = growth_server(upstream_url, {"key:bench": json.dumps({"tenant": "bench", "hashes": [hash_secret(SECRET)]})})
    (own,) = spec["servers"]
    probe = WORKERS / "memory_entry.py"
    own["modules"] = [{"type": "PythonModule", "path": probe.name, "file": str(probe)}, *own["modules"]]
    own["inspect"] = True
    return spec


def import_server() -> dict[str, Any]:
    """Our Worker's code behind `workers/import_entry.py`, which imports none of it before it is asked to."""
    spec = nearside_server("imports", {}, main=WORKERS / "import_entry.py")
    del spec["servers"][0]["options"]["durableObjects"]  # it would have to export their classes
    return spec
