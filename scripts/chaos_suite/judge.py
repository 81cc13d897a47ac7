"""Whether what came back keeps the contract, whatever failed meanwhile: law, tenants, money. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_router.budgets.money import nano_usd
from scripts.chaos_suite.questions import Question, Step, answer_of, repeated
from scripts.fault_matrix.law import Expectation, violations
from scripts.fault_matrix.transcript import Transcript, read_json, read_stream, report_of

# docs/errors.md: what may be said of failures behind the gateway. A code of the caller's fault, or 500, is a breach.
CODES: Mapping[int, frozenset[str]] = {
    429: frozenset({"upstream_busy", "rate_limited", "edge_allowance_used_up"}),
    502: frozenset(
        {
            "upstream_error",
            "edge_unavailable",
            "cloud_unavailable",
            "cloud_refused",
            "stream_cut",
            "upstream_unreachable",
        }
    ),
    503: frozenset(
        {
            "upstream_open",
            "upstream_saturated",
            "shutting_down",
            "upstream_error",
            "budget_unavailable",
            "auth_unavailable",
        }
    ),
    504: frozenset({"upstream_timeout", "stream_stalled", "stream_too_slow"}),
}
_ALL_CODES = frozenset().union(*CODES.values())
# These come before anything is decided, so they have nothing to say of a route or the cache.
_EARLY_CODES = frozenset({"auth_unavailable"})
_LATER_HEADERS = ("no header nearside-route-reason", "no header cache-status", "no header server-timing")
_MIN_COSINE = 0.999


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a step. was_asked: whether its tenant has asked this another time, before the answer came."""

    step: Step
    tenant: str
    run: str
    is_stream: bool
    was_asked: bool = False


def breaches(asked: Asked, transcript: Transcript, vectors: Mapping[str, Sequence[float]]) -> list[str]:
    """Each as one phrase. vectors: of the texts of questions.py, as they were when nothing failed."""
    if transcript.trouble is not None:
        return [transcript.trouble]
    if transcript.status != 200:
        return _refusal(transcript)
    if asked.step.kind == "embeddings":
        return _embedding(asked.step.questions[0].prompt, transcript, vectors)
    if asked.step.kind == "batch":
        return _batch(asked.step.questions, transcript)
    return [*_chat(asked, transcript), *_stranger(asked, transcript)]


def error_code(transcript: Transcript) -> str | None:
    """Of an error status, or of a stream that broke."""
    if transcript.is_stream:
        errors = read_stream(transcript.body).errors
        return str(errors[0]["error"].get("code")) if errors else None
    body = read_json(transcript.body)
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("code")) if isinstance(error, dict) else None


def cost_nano_usd(transcript: Transcript) -> int:
    """What the caller was told that it costs."""
    if transcript.is_stream:
        chunks = read_stream(transcript.body).chunks
        report = report_of(chunks[-1]) if chunks else {}
    else:
        report = report_of(read_json(transcript.body))
    return nano_usd(float(report.get("cost_usd") or 0))


def ledger_breaches(usage: Mapping[str, Any], *, told_nano: int, unknown: int, dearest_usd: float) -> list[str]:
    """Whether a tenant's ledger of this month is the sum of what its callers were told.

    told_nano: sum of all answers' costs. unknown: requests whose end nobody saw, because their connection broke.
    What is still reserved belongs to requests whose end the ledger has not seen.
    """
    month = usage["month"]
    spent, reserved = nano_usd(month["spent_usd"]), nano_usd(month["reserved_usd"])
    found = []
    if spent + reserved < told_nano:
        found.append(f"the ledger has spent {spent} and reserved {reserved}, its callers were told {told_nano}")
    if spent > told_nano + unknown * nano_usd(dearest_usd):
        found.append(f"the ledger has spent {spent}, its callers were told {told_nano}, {unknown} were not told")
    by_model = sum(nano_usd(model["spent_usd"]) for model in usage["models"])
    if by_model != spent:
        found.append(f"the ledger's models sum up to {by_model}, its month to {spent}")
    return found


def _refusal(transcript: Transcript) -> list[str]:
    expected = Expectation(is_stream=False, complete=lambda model: (), statuses=frozenset(CODES))
    found = violations(transcript, expected)
    code = error_code(transcript)
    if code in _EARLY_CODES:
        found = [violation for violation in found if violation not in _LATER_HEADERS]
    if code not in CODES.get(transcript.status, ()):
        found.append(f"status {transcript.status} with code {code}")
    return found


def _chat(asked: Asked, transcript: Transcript) -> list[str]:
    question = asked.step.questions[0]
    is_by_meaning = transcript.headers.get("nearside-served-by") == "semantic-cache"
    candidates = [*repeated(asked.tenant, asked.run)] if is_by_meaning and question.is_repeated else [question]

    def complete(model: str) -> tuple[str, ...]:
        return tuple(answer_of(candidate, model) for candidate in candidates)

    found = violations(transcript, Expectation(asked.is_stream, complete, frozenset(CODES)))
    code = error_code(transcript)
    if code is not None and code not in _ALL_CODES:
        found.append(f"a stream that breaks with code {code}")
    return found


def _stranger(asked: Asked, transcript: Transcript) -> list[str]:
    """An answer out of a store, or of a call in flight, to what this tenant had never asked, is another tenant's."""
    served_by = transcript.headers.get("nearside-served-by", "")
    is_shared = served_by == "exact-cache" or "collapsed" in transcript.headers.get("cache-status", "")
    return ["an answer that another tenant had asked for"] if is_shared and not asked.was_asked else []


def _batch(questions: Sequence[Question], transcript: Transcript) -> list[str]:
    body = read_json(transcript.body)
    responses = body.get("responses") if isinstance(body, dict) else None
    if not isinstance(responses, list) or len(responses) != len(questions):
        return ["a batch without a response for each prompt"]
    failed = {error["index"]: error["error"] for error in body.get("errors", [])}
    found = []
    for index, (question, text) in enumerate(zip(questions, responses, strict=True)):
        if text is None:
            code = failed.get(index, {}).get("code")
            if code not in _ALL_CODES:
                found.append(f"a batch's null with code {code}")
        elif not any(text == answer_of(question, model) for model in [_claimed(text)]):
            found.append("a batch's text that is no whole answer to its prompt")
    return found


def _claimed(text: str) -> str:
    """The model that a simulated answer names."""
    return text.partition("[simulated answer by ")[2].partition("]")[0]


def _embedding(text: str, transcript: Transcript, vectors: Mapping[str, Sequence[float]]) -> list[str]:
    body = read_json(transcript.body)
    try:
        vector = body["data"][0]["embedding"]
        cosine = _cosine(vector, vectors[text])
    except (LookupError, TypeError, ValueError):
        return ["an embedding that can't be read"]
    return [] if cosine > _MIN_COSINE else [f"a wrong vector: cosine {cosine:.3f}"]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other) or 1.0)
