"""What goes wrong, where and how often: the faults a test has asked for. Pure; randomness is seeded."""

import random
from dataclasses import dataclass

KINDS = {
    "error": "500, in the target's own error format",
    "timeout": "never answers",
    "slow": "first byte SLOW_TTFT_S late, or the latency's ttft_ms when that is set",
    "cut": "connection aborted after `after_chunks` content chunks, or half way through a plain body",
    "malformed": "200 whose JSON is garbage, in a stream from content chunk `after_chunks` on (default 0)",
    "capacity": "out of capacity: 429 with code 3040 (ai, embed), 429 (upstream, vectorize), 503 (cloud)",
    "allowance": "free allocation used up: 429 with code 3036 (ai, embed); elsewhere as error",
    "refuse": "connection aborted before any byte",
    "429": "429 without Retry-After",
    "429-retry-after": "429 with Retry-After: `retry_after_s` (default 1)",
    "500": "500, as error",
    "503": "503, in the target's own error format",
    "truncated": "JSON that stops half way while the response ends properly",
    "wrong-content-type": "the right body as text/plain",
    "empty-body": "200 and no byte of body",
    "empty-stream": "a stream of nothing but [DONE]; {} when plain",
    "no-done": "stream without its [DONE]; no effect on a plain answer",
    "early-end": "stream that ends properly after `after_chunks`, with no finish_reason and no [DONE]; "
    "no effect on a plain answer",
    "stall": "nothing more after `after_chunks` content chunks or half a plain body; connection stays open",
    "slow-stream": "SLOW_ITL_S between tokens, or the latency's itl_ms when that is set",
    "double-done": "stream with [DONE] twice; no effect on a plain answer",
    "html-error": "502 with an HTML page",
    "huge-chunk": "1 MiB of text in the first content chunk; a plain body is padded with 1 MiB of spaces",
    "tiny-chunks": "10,000 content chunks of one character; a plain body's first 10,000 bytes one by one",
    "cut-utf8": "as cut, in the middle of a multi-byte character",
    "timeout-first-token": "status and headers, then nothing",
    "bad-refusal": "a whole answer that declines (ai only, as the next ones)",
    "bad-blank": "a whole answer of nothing but white space",
    "bad-half": "a whole answer that ends within a sentence",
    "bad-loop": "a whole answer that goes round in circles from its third sentence on",
    "bad-unsure": "a whole answer that says it does not know",
}

# Kinds for which the service itself is never asked.
REPLACING_KINDS = frozenset(
    {"error", "timeout", "capacity", "allowance", "refuse", "429", "429-retry-after", "500", "503", "html-error"}
)

SLOW_TTFT_S = 3.0
SLOW_ITL_S = 0.1

DEFAULT_AFTER_CHUNKS = 3
ANY_REGION = "cloud"
REGION_PREFIX = "cloud:"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for one answer to go wrong.

    after_chunks: content chunks sent unharmed first; None is the kind's own default.
    """

    kind: str
    after_chunks: int | None = None
    retry_after_s: int = 1

    @property
    def healthy_chunks(self) -> int:
        if self.after_chunks is not None:
            return self.after_chunks
        return 0 if self.kind == "malformed" else DEFAULT_AFTER_CHUNKS


@dataclass(slots=True)
class Rule:
    """A fault at a target. rate: probability in (0, 1]. count: calls it still hits, None without end."""

    target: str
    fault: Fault
    rate: float = 1.0
    count: int | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "target": self.target,
            "kind": self.fault.kind,
            "after_chunks": self.fault.after_chunks,
            "retry_after_s": self.fault.retry_after_s,
            "rate": self.rate,
            "count": self.count,
        }


class FaultRegistry:
    """The rules in force, oldest first. The first that strikes decides, so counted rules form a script."""

    def __init__(self, *, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        self._rules.append(rule)

    def clear(self, target: str | None = None) -> None:
        """Removes the rules of one target, or all of them."""
        self._rules = [rule for rule in self._rules if target is not None and rule.target != target]

    def as_json(self) -> list[dict[str, object]]:
        return [rule.as_json() for rule in self._rules]

    def take(self, target: str, *, is_probe: bool = False) -> Fault | None:
        """The fault that strikes this call, or None.

        A rule for `cloud` applies to every `cloud:<region>`. A health probe is never struck by a rule
        with a count: probes come at their own times and would use it up.
        """
        for rule in self._rules:
            if rule.target != target and not (rule.target == ANY_REGION and target.startswith(REGION_PREFIX)):
                continue
            if is_probe and rule.count is not None:
                continue
            if rule.rate < 1.0 and self._random.random() >= rule.rate:
                continue
            if rule.count is not None:
                rule.count -= 1
                if rule.count == 0:
                    self._rules.remove(rule)
            return rule.fault
        return None
