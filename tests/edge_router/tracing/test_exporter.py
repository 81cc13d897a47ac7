"""Spans of requests, read as a collector reads them, from a gateway whose outside world is scripted."""

import re
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from edge_router.errors import UpstreamTimeout
from edge_router.settings import SettingsError, read_settings
from edge_router.tracing import exporter as exporter_module
from edge_router.tracing.exporter import SpanExporter
from edge_router.tracing.spans import Sampling
from tests.edge_router.harness import (
    CLOUD_FAST,
    COMPLEX_PROMPT,
    EDGE_SMALL,
    World,
    chat_body,
    cloud,
    completion,
    error_of,
    read_stream,
)
from tests.edge_router.tracing.otlp import attributes, read_spans, resource_of
from tests.fakes import FakeCloudRegions, FakeFlights, FakeReceiver, FakeUpstreamResponse

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "rojo=1"}
COLLECTOR = "http://localhost:4318"


class CountingHex:
    """Ids that count up."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, count: int) -> str:
        self._last += 1
        return f"{self._last:0{2 * count}x}"


class Traced:
    """A gateway with an exporter, and what a collector received of it."""

    def __init__(self, *, ratio: float = 0.0, statuses: list[int | None] | None = None, **facts: Any) -> None:
        random_hex = CountingHex()
        self.world = World(sampling=Sampling(ratio, random_hex), **facts)
        self.receiver = FakeReceiver(statuses or [200])
        world = self.world
        headers = {"api-key": "k"}
        self.exporter = SpanExporter(
            COLLECTOR, headers, self.receiver, world.clock, world.log, random_hex=random_hex, flush_after_s=0
        )
        world.exporter = self.exporter
        self.gateway = world.gateway()

    async def ask(self, body: object = None, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
        reply = await self.world.ask(body, headers=headers, of=self.gateway, **options)
        if not isinstance(reply.body, str):
            await read_stream(reply)
        return reply

    async def spans(self) -> list[Span]:
        """All that was received, by the protocol's schema."""
        await self.world.background.finish()
        return [span for _, body, _ in self.receiver.posts for span in read_spans(body)]


def parents(spans: list[Span]) -> dict[str, str]:
    names = {span.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent_span_id, span.parent_span_id.hex()) for span in spans}


async def test_one_request() -> None:
    """One span for it, in the caller's trace, one for each part; the cloud gets our span as its parent."""
    traced = Traced()
    await traced.ask(chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id), headers=SAMPLED)
    spans = await traced.spans()
    server = spans[0]

    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert parents(spans) == {
        "POST /v1/chat/completions": PARENT,
        "cache": "POST /v1/chat/completions",
        "decide": "POST /v1/chat/completions",
        "cloud": "POST /v1/chat/completions",
    }
    assert [span.kind for span in spans] == [
        Span.SPAN_KIND_SERVER,
        Span.SPAN_KIND_INTERNAL,
        Span.SPAN_KIND_INTERNAL,
        Span.SPAN_KIND_CLIENT,
    ]
    assert {span.trace_state for span in spans} == {"rojo=1"}
    (call,) = traced.world.cloud.calls
    assert call.headers["traceparent"] == f"00-{TRACE}-{server.span_id.hex()}-01"
    assert call.headers["tracestate"] == "rojo=1"


async def test_attributes() -> None:
    """OpenTelemetry's names where they mean the same; no text of anyone."""
    traced = Traced()
    await traced.ask(chat_body("The secret word is xyzzy. " + COMPLEX_PROMPT, model=CLOUD_FAST.id), headers=SAMPLED)
    spans = await traced.spans()
    told = attributes(spans[0])

    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.response.model"] == CLOUD_FAST.id
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (10, 5)
    assert (told["http.route"], told["http.response.status_code"]) == ("/v1/chat/completions", 200)
    assert (told["nearside.colo"], told["nearside.served_by"]) == ("CDG", "cloud")
    assert attributes(spans[-1])["gen_ai.request.model"] == CLOUD_FAST.id
    ((url, body, headers),) = traced.receiver.posts
    assert (url, headers["content-type"], headers["api-key"]) == (f"{COLLECTOR}/v1/traces", "application/json", "k")
    assert resource_of(body)["service.name"] == "nearside"
    assert "xyzzy" not in body
    assert not re.search(r"Paris", body)


async def test_call_that_others_share() -> None:
    """Is told as a truth value."""
    landed = FakeUpstreamResponse.plain(completion())
    regions = FakeCloudRegions(lambda call: landed)
    traced = Traced(single_flight="cloud", flights=FakeFlights(regions, landed))
    await traced.ask(chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id), headers=SAMPLED)
    told = attributes((await traced.spans())[0])

    assert told["nearside.collapsed"] is True
    assert "nearside.hedged" not in told


async def test_times() -> None:
    """Parts lie within the request, one after the other, as long as the report says."""
    traced = Traced()
    report_of = await traced.ask(chat_body(), headers=SAMPLED)
    spans = await traced.spans()
    server, *parts = spans

    assert server.start_time_unix_nano // 10**9 == int(traced.world.clock.now_s())
    ends = [server.start_time_unix_nano]
    for part in parts:
        assert part.start_time_unix_nano == ends[-1]
        ends.append(part.end_time_unix_nano)
    assert ends == sorted(ends)
    assert ends[-1] <= server.end_time_unix_nano
    assert report_of.status == 200


async def test_stream() -> None:
    """Ends with its last event, and says when its first content came."""
    traced = Traced()
    await traced.ask(chat_body(stream=True, model=EDGE_SMALL.id), headers=SAMPLED)
    spans = await traced.spans()

    assert "gen_ai.response.time_to_first_chunk" in attributes(spans[0])
    assert [span.name for span in spans][-1] == "ai"


async def test_failure() -> None:
    """Has its error code; a caller's mistake is no error of the server."""

    def late(_: object) -> FakeUpstreamResponse:
        raise UpstreamTimeout("too late")

    traced = Traced(cloud=cloud(late), models=[CLOUD_FAST])
    await traced.ask(chat_body(model=CLOUD_FAST.id), headers=SAMPLED)
    reply = await traced.ask({"messages": "none"}, headers=SAMPLED)
    servers = [span for span in await traced.spans() if span.kind == Span.SPAN_KIND_SERVER]

    assert [span.status.code for span in servers] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]
    assert attributes(servers[0])["error.type"] == "upstream_timeout"
    assert attributes(servers[1])["http.response.status_code"] == reply.status == 400
    assert error_of(reply)["param"] == "messages"


async def test_without_exporter() -> None:
    """The caller's context goes to the cloud as it came."""
    world = World()
    await world.ask(chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id), headers=SAMPLED)

    assert SAMPLED.items() <= world.cloud.calls[0].headers.items()


@pytest.mark.parametrize("has_exporter", [True, False])
async def test_invalid_context(has_exporter: bool) -> None:
    """Is not passed on; with an exporter a trace of our own begins."""
    world = Traced().world if has_exporter else World()
    body = chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id)
    await world.ask(body, headers={"traceparent": "00-1-2-01", "tracestate": "rojo=1"})
    sent = world.cloud.calls[0].headers

    assert "tracestate" not in sent
    assert sent.get("traceparent") == (f"00-{2:032x}-{1:016x}-00" if has_exporter else None)


@pytest.mark.parametrize(
    ("flags", "ratio", "exported"),
    [
        pytest.param("01", 0.0, True, id="the caller samples"),
        pytest.param("00", 1.0, False, id="the caller does not"),
        pytest.param(None, 1.0, True, id="no caller's trace, all"),
        pytest.param(None, 0.0, False, id="no caller's trace, none"),
    ],
)
async def test_sampling(flags: str | None, ratio: float, exported: bool) -> None:
    """The caller decides; without one, the ratio. What the cloud is told agrees."""
    traced = Traced(ratio=ratio)
    headers = {} if flags is None else {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
    await traced.ask(chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id), headers=headers)

    assert bool(await traced.spans()) == exported
    assert traced.world.cloud.calls[0].headers["traceparent"].endswith("-01" if exported else "-00")


def test_ratio() -> None:
    """About as many as asked for, and the same trace always the same."""
    from random import Random

    rng = Random(7)
    sampling = Sampling(0.25, lambda count: rng.randbytes(count).hex())
    sampled = sum(sampling.begin({}, "/", 0).context.is_sampled for _ in range(4000))

    assert 900 < sampled < 1100


async def test_only_asking_is_traced() -> None:
    """Looking at models or metrics is no span."""
    traced = Traced(ratio=1.0)
    await traced.ask(path="/v1/models", method="GET", headers=SAMPLED)

    assert await traced.spans() == []


@pytest.mark.parametrize("status", [None, 500, 400])
async def test_collector_that_fails(status: int | None) -> None:
    """Spans are dropped, counted, logged, and told with the next batch; the request is answered."""
    traced = Traced(statuses=[status, 200])
    reply = await traced.ask(headers=SAMPLED)
    first = len(await traced.spans())
    await traced.ask(headers=SAMPLED)
    await traced.spans()

    assert reply.status == 200
    assert "spans_lost" in traced.world.log.names()
    assert "nearside.lost_spans" not in resource_of(traced.receiver.posts[0][1])
    assert resource_of(traced.receiver.posts[1][1])["nearside.lost_spans"] == first


async def test_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go together; beyond the bound the loss is told."""
    monkeypatch.setattr(exporter_module, "MAX_WAITING", 3)
    traced = Traced()
    for _ in range(5):
        await traced.ask(headers=SAMPLED)
    servers = [span for span in await traced.spans() if span.kind == Span.SPAN_KIND_SERVER]

    assert (len(servers), len(traced.receiver.posts)) == (3, 1)
    assert resource_of(traced.receiver.posts[0][1])["nearside.lost_spans"] == 2


def test_variables() -> None:
    """Off unless there is an endpoint; headers as OpenTelemetry writes them; they do not show."""
    assert read_settings({}).otlp_endpoint == ""

    settings = read_settings(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.test:4318",
            "OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=s3cret%3D, x-team=edge",
            "OTEL_TRACES_SAMPLER_ARG": 0.25,
        }
    )
    assert settings.otlp_endpoint == "https://otel.test:4318"
    assert settings.otlp_headers == {"api-key": "s3cret=", "x-team": "edge"}
    assert settings.trace_ratio == 0.25
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel.test"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel.test:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0Ab"),
        ("OTEL_TRACES_SAMPLER_ARG", 2),
    ],
)
def test_wrong_variables(name: str, value: Any) -> None:
    """Stop the start with one line that does not tell the secret."""
    with pytest.raises(SettingsError) as raised:
        read_settings({name: value})

    assert str(raised.value).startswith(f"{name}: ")
    assert "s3cret" not in str(raised.value)
