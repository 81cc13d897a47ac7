"""The steps of a memory hit and of a call passed on, each as often as it is told. Its clock stands still: the caller
takes the time.
"""

# mypy: ignore-errors
# js and workers exist inside workerd only.

import json

from js import JSON, Request, Response
from workers import WorkerEntrypoint

import entry
from adapters.border import BORDER
from adapters.http import WorkerRequest, to_response
from adapters.runtime import CLOCK, new_id, run_eagerly
from edge_router.metrics.points import PointRecorder
from edge_router.prompts.optimizer import optimize
from edge_router.replies import json_reply
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


class AtOnce:
    """`CloudRegions` and its answer, which is there already."""

    status = 200
    keeps = True

    def __init__(self, answer):
        self.answer = answer

    async def post(self, region, path, body, headers):
        return self

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
        self.gateway, *_ = entry.compose(env)
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
        answering._services.upstreams._cloud = AtOnce(self.answer)

    def request(self):
        request = ReadRequest(self.js_request)
        request.content = self.content
        return request

    def passed(self, model):
        request = self.request()
        request.content = json.dumps({**json.loads(self.content), "model": model, "use_cache": False})
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
        if "prepare" in job:
            await BORDER.open()
            env = entry.import_from_javascript("cloudflare:workers").env
            Default.steps = Steps(job["prepare"], env)
            answered = await Default.steps.gateway.handle(Default.steps.request(), entry.BACKGROUND)
            try:
                await Default.steps.prepare()
            except AssertionError as exc:
                return Response.new(str(exc) + str(answered.body), JSON.parse('{"status": 503}'))
        else:
            Default.steps.run(job["step"], job["times"])
        return Response.new("done")
