"""The matrix: which fault, on which route, asked for how, with or without another upstream. Data only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["plain", "stream"]
Lane = Literal["edge", "cloud"]

MODES: tuple[Mode, ...] = ("plain", "stream")
BOTH = frozenset(MODES)
STREAM_ONLY: frozenset[Mode] = frozenset({"stream"})

BROKEN = frozenset({502})
SILENT = frozenset({504})
DOWN = frozenset({502, 503})
BUSY = frozenset({429})

RETRY_AFTER_S = 7  # what nobody says by default, so that it can only be the upstream's
PACE_MS = 20.0  # so that the first content has left before the fault comes


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `kind` and `options` are the emulator's, see scripts/local/faults.py.

    statuses: what the caller may be told when nobody else can answer.
    pace_ms: between the tokens of a stream. late_ms: before the first one, in both modes.
    is_silent: a struck attempt fails by a deadline only, seconds later.
    may_break: a stream is struck after its first content, so that no other upstream can take over.
    must_answer: modes in which the fault is harmless, the answer complete.
    is_heavy: keeps a core busy for seconds, so that nothing else should run beside it in its lane.
    body: what the request says more.
    """

    id: str
    kind: str
    statuses: frozenset[int] = BROKEN
    options: dict[str, Any] = field(default_factory=dict)
    pace_ms: float | None = None
    late_ms: float | None = None
    is_silent: bool = False
    may_break: bool = False
    must_answer: frozenset[Mode] = frozenset()
    is_heavy: bool = False
    body: dict[str, Any] = field(default_factory=dict)


def _at_once(kind: str, *, is_silent: bool = False) -> Fault:
    """Strikes a stream before its first content."""
    statuses = SILENT if is_silent else BROKEN
    return Fault(f"{kind}-at-once", kind, statuses, {"after_chunks": 0}, is_silent=is_silent)


def _half_way(kind: str, *, is_silent: bool = False) -> Fault:
    """Strikes a stream after its first content has left."""
    statuses = SILENT if is_silent else BROKEN
    options = {"after_chunks": 5}
    return Fault(f"{kind}-after-5", kind, statuses, options, PACE_MS, is_silent=is_silent, may_break=True)


FAULTS = (
    Fault("refuse", "refuse"),
    Fault("429", "429", BUSY),
    Fault("429-retry-after", "429-retry-after", BUSY, {"retry_after_s": RETRY_AFTER_S}),
    Fault("500", "500"),
    Fault("error", "error"),
    Fault("503", "503", DOWN),
    Fault("capacity", "capacity", BUSY | DOWN),
    Fault("html-error", "html-error"),
    Fault("timeout", "timeout", SILENT, is_silent=True),
    Fault("timeout-first-token", "timeout-first-token", SILENT, is_silent=True),
    Fault("slow", "slow", SILENT, is_silent=True),
    Fault("slow-within-the-deadline", "slow", late_ms=600, must_answer=BOTH),
    Fault("wrong-content-type", "wrong-content-type"),
    Fault("empty-body", "empty-body"),
    Fault("empty-stream", "empty-stream"),
    _at_once("cut"),
    _half_way("cut"),
    _at_once("cut-utf8"),
    _half_way("cut-utf8"),
    _at_once("malformed"),
    _half_way("malformed"),
    _at_once("truncated"),
    _half_way("truncated"),
    _at_once("early-end"),
    _half_way("early-end"),
    _at_once("stall", is_silent=True),
    _half_way("stall", is_silent=True),
    Fault("no-done", "no-done", may_break=True),
    Fault("double-done", "double-done", must_answer=BOTH),
    Fault("slow-stream", "slow-stream", SILENT, pace_ms=PACE_MS, is_silent=True, must_answer=STREAM_ONLY),
    Fault("crawling-stream", "slow-stream", SILENT, pace_ms=600, is_silent=True, may_break=True),
    Fault("huge-chunk", "huge-chunk", must_answer=BOTH),
    Fault("tiny-chunks", "tiny-chunks", must_answer=BOTH, is_heavy=True, body={"max_tokens": 24}),
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where the fault strikes.

    lane: routes of different lanes don't touch each other's targets.
    target, body: the fault everywhere, and a request that names one model.
    other_target, other_body: another upstream can answer. counted: because the fault strikes only once a request.
    """

    id: str
    says: str
    lane: Lane
    target: str
    body: dict[str, Any]
    other_target: str
    other_body: dict[str, Any]
    counted: bool = True


# No native model takes `stop`, so that this one moves a request to the OpenAI-shaped ones and changes nothing else.
_NEVER_SAID = {"stop": ["\u2603"]}

ROUTES = (
    Route(
        "edge-native",
        "Workers AI, native models",
        "edge",
        "ai",
        {"model": "@cf/meta/llama-3.2-3b-instruct"},
        "ai",
        {"model": "auto"},
    ),
    Route(
        "edge-openai",
        "Workers AI, OpenAI-shaped models",
        "edge",
        "ai",
        {"model": "@cf/zai-org/glm-4.7-flash"},
        "ai",
        {"model": "edge", **_NEVER_SAID},
    ),
    Route(
        "provider",
        "cloud, the provider behind the regions",
        "cloud",
        "upstream",
        {"model": "gpt-4o-mini"},
        "upstream",
        {"model": "cloud"},
    ),
    Route(
        "region",
        "cloud, the regions themselves",
        "cloud",
        "cloud",
        {"model": "gpt-4o-mini"},
        "cloud:wnam",
        {"model": "cloud"},
        counted=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix."""

    fault: Fault
    route: Route
    mode: Mode
    has_other: bool

    @property
    def name(self) -> str:
        return f"{self.fault.id} {self.route.id} {self.mode} {'other' if self.has_other else 'alone'}"

    @property
    def target(self) -> str:
        return self.route.other_target if self.has_other else self.route.target

    @property
    def is_counted(self) -> bool:
        """The fault strikes once, and the next upstream of the same target works."""
        return self.has_other and self.route.counted

    def body(self, prompt: str) -> dict[str, Any]:
        """The request. The stream asks for usage, as clients that count tokens do."""
        stream = {"stream": True, "stream_options": {"include_usage": True}} if self.mode == "stream" else {}
        return {**self.plain_body(prompt), **stream}

    def plain_body(self, prompt: str) -> dict[str, Any]:
        """The same question, so that a stored answer of `body` would answer it."""
        route = self.route.other_body if self.has_other else self.route.body
        return {**route, **self.fault.body, "messages": [{"role": "user", "content": prompt}]}


@dataclass(frozen=True, slots=True)
class Group:
    """Cases of one lane under the same fault at the same target."""

    cases: tuple[Case, ...]

    @property
    def run_together(self) -> bool:
        """Counted faults strike whoever comes first: then it must be known who that is.

        Attempts that fail late can go together, because all first attempts arrive before any second.
        """
        fault = self.cases[0].fault
        return not fault.is_heavy and (fault.is_silent or not self.cases[0].is_counted)


def lanes(faults: Sequence[Fault] = FAULTS) -> dict[Lane, list[Group]]:
    """What to run, in order, in each lane. Every case is in one group."""
    groups: dict[Lane, list[Group]] = {"edge": [], "cloud": []}
    for fault in faults:
        for route in ROUTES:
            for has_other in (False, True):
                # A pace is set for the whole target, and would make plain answers late.
                for modes in ((mode,) for mode in MODES) if fault.pace_ms else (MODES,):
                    groups[route.lane].append(Group(tuple(Case(fault, route, mode, has_other) for mode in modes)))
    return groups
