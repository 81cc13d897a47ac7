"""Only signed calls get in, each once; of all others nothing goes upstream."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.datastructures import Headers

from cloud_fallback.access import Access
from cloud_fallback.errors import NotSigned
from cloud_fallback.metrics import Metrics
from cloud_fallback.shared import MemoryState
from edge_router.signing import Key, sign
from tests.cloud_fallback.harness import COMPLETION, KEY, FakeUpstream, call, service

OLD, NEW = Key("old", b"o" * 32), Key("new", b"n" * 32)
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Grüße"}]}).encode()
KEYS = ",".join(f"{key.id}:{key.secret.hex()}" for key in (NEW, OLD))


def guarded(upstream: FakeUpstream) -> Any:
    return service(upstream, fallback_auth="keys", fallback_keys=KEYS)


def signed(key: Key = NEW, **changes: Any) -> dict[str, str]:
    fields = {"method": "POST", "path": PATH, "request_id": "r1", "body": BODY, "nonce": "n" * 16, "now_s": time.time()}
    return sign(key, **{**fields, **changes})


@pytest.mark.parametrize("key", [OLD, NEW], ids=lambda key: key.id)
async def test_signed(key: Key) -> None:
    """Both keys are valid, so that they can be changed without a gap; what signs a call does not go upstream."""
    upstream = FakeUpstream.plain(COMPLETION)

    response = await call(guarded(upstream), "POST", PATH, BODY, {**signed(key), "authorization": "Bearer tenants"})

    assert response.status_code == 200
    sent = upstream.asked[0].headers
    assert sent["authorization"] == f"Bearer {KEY}"
    assert not {"signature", "signature-input", "content-digest"} & set(sent)


@pytest.mark.parametrize(
    ("path", "body", "headers_now", "reason"),
    [
        pytest.param(PATH, BODY, dict, "missing", id="unsigned"),
        pytest.param(PATH, BODY, lambda: {"authorization": f"Bearer {KEY}"}, "missing", id="a key instead"),
        pytest.param(PATH, BODY, lambda: {**signed(), "signature": "edge=:AAAA:"}, "malformed", id="nonsense"),
        pytest.param(PATH, BODY, lambda: signed(Key("x", b"x" * 32)), "key", id="unknown key"),
        pytest.param(PATH, BODY, lambda: signed(Key("new", b"x" * 32)), "signature", id="wrong secret"),
        pytest.param("/v1/completions", BODY, lambda: signed(), "signature", id="other path"),
        pytest.param(PATH, BODY, lambda: {**signed(), "x-request-id": "r2"}, "signature", id="other request id"),
        pytest.param(PATH, BODY, lambda: signed(now_s=time.time() - 61), "time", id="old"),
        pytest.param(PATH, BODY, lambda: signed(now_s=time.time() + 120), "time", id="from the future"),
        pytest.param(PATH, BODY + b" ", lambda: signed(), "digest", id="other body"),
        pytest.param(PATH, b"{", lambda: signed(), "digest", id="other body, not JSON"),
        pytest.param("/v1/embeddings", BODY, dict, "missing", id="embeddings"),
    ],
)
async def test_refused(path: str, body: bytes, headers_now: Callable[[], dict[str, str]], reason: str) -> None:
    """401 in OpenAI's form, counted by reason, and the upstream is not asked."""
    upstream = FakeUpstream.plain(COMPLETION)
    app = guarded(upstream)

    response = await call(app, "POST", path, body, headers_now())
    metrics = await call(app, "GET", "/metrics")

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (401, "invalid_signature", "invalid_request_error")
    assert f'nearside_cloud_refused_total{{reason="{reason}"}} 1.0' in metrics.text
    assert not upstream.asked


async def test_replay() -> None:
    """The same call a second time is refused; the same request with a new nonce, as a retry has it, is not."""
    upstream = FakeUpstream.plain(COMPLETION)
    app = guarded(upstream)
    first = signed()

    statuses = [
        (await call(app, "POST", PATH, BODY, headers)).status_code
        for headers in (first, first, signed(nonce="m" * 16), first)
    ]

    assert statuses == [200, 401, 200, 401]
    assert len(upstream.asked) == 2


async def test_replay_with_a_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature must hold when the body is there too: by then the first call's nonce may be forgotten."""
    now_s = [1e9]
    monkeypatch.setattr(time, "time", lambda: now_s[0])
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    metrics = Metrics()
    access = Access((NEW,), MemoryState(), metrics)
    headers = Headers(signed())
    await access.check_body(access.check_headers("POST", PATH, headers), BODY)

    now_s[0] += 59
    replayed = access.check_headers("POST", PATH, headers)
    now_s[0] += 2
    with pytest.raises(NotSigned):
        await access.check_body(replayed, BODY)

    assert b'nearside_cloud_refused_total{reason="time"} 1.0' in metrics.exposition()


async def test_wrong_body_does_not_use_up_the_call() -> None:
    """Who changes a body under way can't make the real call a replay."""
    app = guarded(FakeUpstream.plain(COMPLETION))
    headers = signed()

    forged = await call(app, "POST", PATH, BODY + b" ", headers)
    real = await call(app, "POST", PATH, BODY, headers)

    assert (forged.status_code, real.status_code) == (401, 200)


async def test_body_of_a_stranger_is_not_read() -> None:
    """Without a signature even a body that is far too large is a 401: nobody looked at it."""
    response = await call(guarded(FakeUpstream()), "POST", PATH, b" " * 5_000_000)

    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gpt-4o", "/v1/nope"])
async def test_everything_below_v1_is_guarded(path: str) -> None:
    """Also what costs nothing."""
    assert (await call(guarded(FakeUpstream()), "GET", path)).status_code == 401


async def test_signed_get() -> None:
    """A signed GET has the digest of no body."""
    headers = signed(method="GET", path="/v1/models", body=b"")

    assert (await call(guarded(FakeUpstream()), "GET", "/v1/models", None, headers)).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_need_no_key(path: str) -> None:
    """What a platform asks is open, says when it is, and has our timing as every answer."""
    response = await call(guarded(FakeUpstream()), "GET", path)

    assert response.status_code == 200
    assert response.headers["server-timing"].startswith("app;dur=")
