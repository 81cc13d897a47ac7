"""The steps of a memory hit and of a call passed on, each as often as it is told. Its clock stands still: the caller
takes the time.
"""

# mypy: ignore-errors
# js and workers exist inside workerd only.

import asyncio
import json
from traceback import format_exc

from js import JSON, Request, Response
from workers import WorkerEntrypoint

import entry
from adapters.border import BORDER
from adapters.event_loop import use_microtasks
from adapters.http import WorkerRequest, to_response
from adapters.runtime import CLOCK, new_id, run_eagerly
from edge_router.metrics.points import PointRecorder
from edge_router.prompts.optimizer import optimize
from edge_router.replies import Reply, json_reply
from edge_router.report import with_report

globals().update({name: getattr(entry, name) for name in entry.__all__ if name != "Default"})  # the objects' classes


KILOBYTE = """\
Could you please explain how tides work, and why there are two of them on most days? I have read a number of pages about
it, but they say little of the far side of the Earth.

In order to keep it short, leave out the history: who found it, and when, does not matter. What I would like to see
instead is how the height of a tide follows from the shape of a coast, with two or three places as examples, such as the
Bay of Fundy, where the water rises by 16 metres, and the Baltic Sea, where nobody has ever noticed that there is any.

Then say what the Sun has to do with it, how spring tides differ from neap tides, and whether a day without a Moon would
still have some. Somebody told me that the Earth turns slower and slower because of all this, and the Moon moves away
by a few centimetres a year: is that so, and what does it mean in the long run?

Write for a person who left school long ago and never liked physics, in plain words, no formulas, and end with a list
of what to read next. It will be read to a class of adults in the evening.
"""


class NoBackground:
    """What would run behind the response does not run."""

    def run(self, work):
        work.close()


class ReadRequest(WorkerRequest):
    """One whose body has been read."""

    async def body(self):
        return self.content


class Kept:
    """Telemetry that keeps the report of the last request."""

    def record(self, report, background, *, tenant, status):
        self.report = report


def events(first, last):
    """Bytes of the stream's chunks with these numbers; `[DONE]` behind number 1, and a finish reason before."""
    made = []
    for number in range(first, last):
        delta = {"role": "assistant", "content": "a"} if number == 0 else {"content": f" token {number}"}
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
        made.append({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    if first:
        made.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in made)
    return (text + ("data: [DONE]\n\n" if first else "")).encode()


class Chunks:
    """A stream's upstream answer, which is there already: `first`, then `rest` in one piece."""

    status = 200
    keeps = True

    def __init__(self, first, rest):
        self.first, self.rest = first, rest

    def header(self, name):
        return "text/event-stream" if name == "content-type" else None

    async def read(self):
        return self.first

    async def push(self, take):
        take(self.rest)

    async def cancel(self):
        """It has ended."""


class OnePiece:
    """A reply's stream that is ready."""

    async def run(self, send):
        send("data: [DONE]\n\n")

    async def aclose(self):
        """Nothing to let go."""


class AtOnce:
    """`CloudRegions` and its answer, which is there already."""

    status = 200
    keeps = True

    def __init__(self, answer):
        self.answer = answer
        self.chunks = None

    async def post(self, region, path, body, headers):
        return Chunks(*self.chunks) if json.loads(body).get("stream") else self

    def header(self, name):
        return None

    async def text(self):
        return self.answer


class Steps:
    """Made of one request, `facts` {url, method, headers, cf, body}, that the cache in memory has an answer for."""

    def __init__(self, facts, env):
        init = {"method": facts["method"], "headers": facts["headers"], "body": facts["body"], "cf": facts["cf"]}
        self.js_request = Request.new(facts["url"], JSON.parse(json.dumps(init)))
        self.health_request = Request.new(facts["url"].partition("/v1/")[0] + "/health")
        self.content, self.answer = facts["body"], facts["answer"]
        self.gateway = entry.compose(env).gateway
        self.background = NoBackground()
        self.kept = Kept()
        self.recorders = list(self.gateway._telemetry)

    async def prepare(self):
        self.gateway._telemetry = [self.kept]
        reply = await self.gateway.handle(self.request(), self.background)
        assert "detail=memory" in reply.headers["cache-status"], reply.headers
        self.report, self.reply = self.kept.report, reply
        self.text = json.dumps({"id": "chatcmpl-1", "choices": [{"message": {"content": "Paris. " * 20}}]})
        self.facts = self.report.body_json()
        self.ready = self.request()
        self.analytics = next(each for each in self.recorders if isinstance(each, PointRecorder))
        self.recorder = next(each for each in self.recorders if each is not self.analytics)

        self.named, self.routed = self.passed("gpt-4o-mini"), self.passed("cloud")
        answering = self.gateway._endpoints["/v1/chat/completions"][1].__self__._answering
        answering._services.upstreams._cloud = cloud = AtOnce(self.answer)
        self.cloud = cloud
        self.streamed = self.passed("gpt-4o-mini", stream=True)

    def request(self):
        request = ReadRequest(self.js_request)
        request.content = self.content
        return request

    def passed(self, model, **more):
        request = self.request()
        request.content = json.dumps({**json.loads(self.content), "model": model, "use_cache": False, **more})
        return request

    async def nothing(self):
        """A coroutine that does not wait."""

    def run(self, name, times):
        """What each step does stands in docs/benchmarks/hot-path.md."""
        return getattr(self, "step_" + name)(times)

    def step_optimize(self, times):
        for _ in range(times):
            optimize(KILOBYTE)

    def step_empty(self, times):
        for _ in range(times):
            pass

    def step_request(self, times):
        for _ in range(times):
            WorkerRequest(self.js_request)

    def step_task(self, times):
        for _ in range(times):
            run_eagerly(self.nothing())

    def step_new_id(self, times):
        for _ in range(times):
            new_id()

    def step_handle(self, times):
        for _ in range(times):
            run_eagerly(self.gateway.handle(self.ready, self.background))

    def step_health(self, times):
        request = WorkerRequest(self.health_request)
        for _ in range(times):
            run_eagerly(self.gateway.handle(request, self.background))

    def step_named(self, times):
        for _ in range(times):
            run_eagerly(self.gateway.handle(self.named, self.background))

    def step_routed(self, times):
        for _ in range(times):
            run_eagerly(self.gateway.handle(self.routed, self.background))

    async def step_streamed(self, times):
        await self.stream(times, events(1, 2))

    async def step_chunks(self, times):
        await self.stream(times, events(1, 101))

    async def stream(self, times, rest):
        """As a request's own work runs: called by JavaScript, and no microtask between its steps."""
        self.cloud.chunks = events(0, 1), rest
        done = asyncio.get_running_loop().create_future()
        CLOCK.after(0, lambda: asyncio.ensure_future(self.streams(times)).add_done_callback(done.set_result))
        (await done).result()

    async def streams(self, times):
        for _ in range(times):
            reply = await self.gateway.handle(self.streamed, self.background)
            assert not isinstance(reply.body, str), reply.body
            await reply.body.run(self.nobody)
            await reply.body.aclose()

    @staticmethod
    def nobody(text):
        """Takes what is streamed."""

    def step_stream_response(self, times):
        for _ in range(times):
            to_response(Reply(200, OnePiece(), self.reply.headers))

    def step_score(self, times):
        for _ in range(times):
            entry.SCORER.score("What is the capital of France, and which river runs through it?")

    def step_timer(self, times):
        for _ in range(times):
            CLOCK.after(10, self.step_timer)()

    def step_report_headers(self, times):
        for _ in range(times):
            self.report.headers()

    def step_report_body(self, times):
        for _ in range(times):
            self.report.body_json()

    def step_splice(self, times):
        for _ in range(times):
            with_report(self.text, self.facts)

    def step_json_reply(self, times):
        for _ in range(times):
            json_reply(self.text, self.report)

    def step_response(self, times):
        for _ in range(times):
            to_response(self.reply)

    def step_bare_response(self, times):
        for _ in range(times):
            Response.new("hello")

    def step_analytics(self, times):
        for _ in range(times):
            self.analytics.record(self.report, self.background, tenant="open", status=200)

    def step_recorder(self, times):
        for _ in range(times):
            self.recorder.record(self.report, self.background, tenant="open", status=200)
            self.recorder._waiting.clear()


class Default(WorkerEntrypoint):
    """Takes {"step", "times"}; {"prepare": facts} first."""

    steps = None

    async def fetch(self, request):
        job = json.loads(await request.text())
        try:
            await (self.prepare(job["prepare"]) if "prepare" in job else self.work(job["step"], job["times"]))
        except Exception:
            return Response.new(format_exc(), JSON.parse('{"status": 503}'))
        return Response.new("done")

    async def prepare(self, facts):
        await BORDER.open()
        use_microtasks()
        Default.steps = Steps(facts, entry.import_from_javascript("cloudflare:workers").env)
        await Default.steps.gateway.handle(Default.steps.request(), entry.BACKGROUND)
        await Default.steps.prepare()

    async def work(self, step, times):
        working = Default.steps.run(step, times)
        if working is not None:
            await working
