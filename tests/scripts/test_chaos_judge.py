"""The judge of scripts/chaos: each thing that must not happen is named when it does."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from scripts.chaos_suite.actions import FAULTS, all_actions, in_turn
from scripts.chaos_suite.isolate import Held, leaks
from scripts.chaos_suite.judge import Asked, breaches, ledger_breaches
from scripts.chaos_suite.questions import Question, Script, Step, answer_of, repeated
from scripts.chaos_suite.soak import growth
from scripts.fault_matrix.transcript import Transcript
from scripts.local.conditions import SINGLE_TARGETS
from scripts.local.faults import KINDS

MODEL = "gpt-4o-mini"
QUESTION = Question("Who made lantern 1 of amber?", MODEL)
ASKED = Asked(Step("plain", ("amber",), (QUESTION,)), "amber", "run", is_stream=False, was_asked=True)
HEADERS = {
    "content-type": "application/json",
    "x-request-id": "mine",
    "nearside-colo": "DFW",
    "nearside-route-reason": "pinned",
    "nearside-served-by": "cloud",
    "nearside-model": MODEL,
    "server-timing": "ttft;dur=1.0",
    "cache-status": "nearside; fwd=miss",
}


def completion(text: str, **headers: str) -> Transcript:
    message = {"role": "assistant", "content": text, "refusal": None}
    body = {
        "id": "chatcmpl-1",
        "created": 1,
        "model": MODEL,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "nearside": {"model": MODEL},
    }
    sent = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    return Transcript("mine", 200, sent, json.dumps(body).encode())


def refusal(status: int, code: str) -> Transcript:
    error = {"message": "It failed.", "type": "upstream_error", "param": None, "code": code}
    return Transcript("mine", status, HEADERS, json.dumps({"error": error}).encode())


GOOD = answer_of(QUESTION, MODEL)
FROM_CACHE = {"nearside_served_by": "exact-cache", "cache_status": "nearside; hit"}


@pytest.mark.parametrize(
    "transcript",
    [
        pytest.param(completion(GOOD), id="answer"),
        pytest.param(completion(GOOD, **FROM_CACHE), id="own stored answer"),
        pytest.param(refusal(503, "budget_unavailable"), id="contract error"),
    ],
)
def test_lawful(transcript: Transcript) -> None:
    """A right answer and an error of the contract have no breach."""
    assert breaches(ASKED, transcript, {}) == []


@pytest.mark.parametrize(
    ("transcript", "was_asked", "complaint"),
    [
        pytest.param(completion(GOOD[:40]), True, "only a part", id="half an answer"),
        pytest.param(
            completion(answer_of(replace(QUESTION, prompt="Who made lantern 1 of basil?"), MODEL)),
            True,
            "not an answer",
            id="another tenant's answer",
        ),
        pytest.param(completion(GOOD, **FROM_CACHE), False, "another tenant had asked", id="another tenant's entry"),
        pytest.param(
            completion(GOOD, cache_status="nearside; fwd=miss; collapsed"),
            False,
            "another tenant had asked",
            id="another tenant's call in flight",
        ),
        pytest.param(refusal(500, "internal_error"), True, "status 500", id="bug"),
        pytest.param(refusal(502, "made_up"), True, "with code made_up", id="unknown code"),
        pytest.param(refusal(401, "invalid_api_key"), True, "status 401", id="a good key refused"),
        pytest.param(Transcript("mine", 0, {}, b"", "it hangs"), True, "hangs", id="hang"),
    ],
)
def test_unlawful(transcript: Transcript, was_asked: bool, complaint: str) -> None:
    """What must not happen is named."""
    found = breaches(replace(ASKED, was_asked=was_asked), transcript, {})

    assert any(complaint in phrase for phrase in found)


def test_semantic_hits_are_answers_to_the_tenants_own_questions() -> None:
    """A near question's answer will do, but only one of the same tenant's."""
    own, other = repeated("amber", "run")[:2], repeated("basil", "run")[0]
    asked = replace(ASKED, step=Step("plain", ("amber",), (own[0],)))
    by_meaning = {"nearside_served_by": "semantic-cache"}

    assert breaches(asked, completion(answer_of(own[1], MODEL), **by_meaning), {}) == []
    assert breaches(asked, completion(answer_of(other, MODEL), **by_meaning), {})


@pytest.mark.parametrize(
    ("responses", "errors", "is_lawful"),
    [
        pytest.param([GOOD, None], [{"index": 1, "error": {"code": "upstream_error"}}], True, id="one failed"),
        pytest.param([None, GOOD], [{"index": 0, "error": {"code": "upstream_error"}}], False, id="in the wrong place"),
        pytest.param([GOOD, None], [], False, id="null without an error"),
        pytest.param([GOOD], [], False, id="one lost"),
    ],
)
def test_batches(responses: list[str | None], errors: list[dict[str, Any]], is_lawful: bool) -> None:
    """Each prompt has its own answer, in its place, or an error of the contract."""
    step = Step("batch", ("amber",), (QUESTION, replace(QUESTION, prompt="What else?")))
    body = json.dumps({"responses": responses, "errors": errors}).encode()

    found = breaches(replace(ASKED, step=step), Transcript("mine", 200, HEADERS, body), {})

    assert (found == []) is is_lawful


@pytest.mark.parametrize(
    ("vector", "is_lawful"), [([1.0, 0.0], True), ([0.0, 1.0], False), ([1.0], False), ([], False)], ids=str
)
def test_embeddings(vector: list[float], is_lawful: bool) -> None:
    """The vector of a text is the one that it had when nothing failed."""
    step = Step("embeddings", ("amber",), (Question("a red lantern", "embed"),))
    body = json.dumps({"data": [{"embedding": vector}]}).encode()

    found = breaches(replace(ASKED, step=step), Transcript("mine", 200, HEADERS, body), {"a red lantern": [1.0, 0.0]})

    assert (found == []) is is_lawful


@pytest.mark.parametrize(
    ("spent_nano", "reserved_nano", "unknown", "is_lawful"),
    [
        pytest.param(100, 0, 0, True, id="exact"),
        pytest.param(99, 0, 0, False, id="one billionth lost"),
        pytest.param(101, 0, 0, False, id="one billionth too much"),
        pytest.param(90, 20, 0, True, id="not settled yet"),
        pytest.param(150, 0, 1, True, id="one whose end nobody saw"),
        pytest.param(5000, 0, 1, False, id="more than such a one can cost"),
    ],
)
def test_ledger(spent_nano: int, reserved_nano: int, unknown: int, is_lawful: bool) -> None:
    """The ledger is the sum of what the callers were told, to the billionth of a dollar."""
    spent = {"spent_usd": spent_nano / 1e9, "reserved_usd": reserved_nano / 1e9}
    usage = {"day": spent, "month": spent, "models": [{"spent_usd": spent_nano / 1e9}]}

    assert (ledger_breaches(usage, told_nano=100, unknown=unknown, dearest_usd=1e-6) == []) is is_lawful


def test_ledger_whose_sums_differ() -> None:
    """The sum over models is the sum of the month."""
    amounts = {"spent_usd": 1e-7, "reserved_usd": 0.0}
    usage = {"day": amounts, "month": amounts, "models": []}

    assert ledger_breaches(usage, told_nano=100, unknown=0, dearest_usd=1e-6)


def test_the_same_seed_asks_the_same() -> None:
    """So a run can be repeated; another run's questions are new to the caches."""
    script, again, other = (Script("7-1", ("amber", "basil"), run) for run in ("a", "a", "b"))
    steps = [script.next_step() for _ in range(50)]

    assert steps == [again.next_step() for _ in range(50)]
    assert steps != [other.next_step() for _ in range(50)]
    assert {step.kind for step in steps} >= {"plain", "stream", "crowd", "duo", "batch", "embeddings"}


def test_own_questions_name_their_tenant() -> None:
    """Which is what makes their answers nobody else's."""
    script = Script("7-1", ("amber", "basil"), "run")
    steps = [script.next_step() for _ in range(100)]

    own = [(step.tenants[0], question) for step in steps for question in step.questions if question.is_own]
    assert own
    assert all(tenant in question.prompt for tenant, question in own)


def test_every_target_and_every_action_has_its_turn() -> None:
    """First in order, then each once again in random order; faults are of kinds that the emulators know."""
    actions = all_actions(has_clock=True)
    turns = in_turn(actions, seed=1)
    first, second = ([next(turns).name for _ in actions] for _ in range(2))

    assert first == [action.name for action in actions]
    assert second != first
    assert sorted(second) == sorted(first)
    assert set(SINGLE_TARGETS) <= set(FAULTS)
    assert {kind for kinds in FAULTS.values() for kind in kinds} <= set(KINDS)


AT_REST = Held(js_references=200, border_numbers=3, tasks=("told",), python_objects=60_000, wasm_mib=52.0)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        pytest.param({"js_references": 900}, None, id="waits for V8"),
        pytest.param({"js_references": 6_000}, "references", id="one each"),
        pytest.param({"border_numbers": 300}, "numbers", id="waits for ever"),
        pytest.param({"tasks": ("told", *"abcdefghijklm")}, "tasks", id="never done"),
        pytest.param({"python_objects": 90_000, "wasm_mib": 90.0}, "memory", id="kept data"),
        pytest.param({"python_objects": 70_000, "wasm_mib": 75.0}, None, id="filled its caches"),
    ],
)
def test_leaks(changed: Mapping[str, Any], complaint: str | None) -> None:
    """References may wait for JavaScript's collector, but not one for each request; some tasks may be stranded."""
    found = leaks(AT_REST, replace(AT_REST, **changed), requests=3_000)

    assert (complaint in found[0]) if complaint else found == []


def test_growth_of_memory_is_that_of_a_line() -> None:
    """One high sample is no leak; a steady rise is."""
    flat = [(float(second), 100 + 10 * (second == 50)) for second in range(100)]
    rising = [(float(second), 100 + second // 4) for second in range(100)]

    assert abs(growth(flat)) < 0.01
    assert growth(rising) > 0.2
    assert growth(flat[:1]) == 0.0
