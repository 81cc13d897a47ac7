"""Lines of result files, in OpenAI's form; and the parts in which they wait until the batch has ended."""

import json
from dataclasses import dataclass
from typing import Literal

Unanswered = Literal["expired", "cancelled", "dead", "missing"]

_REASONS: dict[Unanswered, tuple[str, str]] = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
    "missing": ("batch_request_failed", "The provider that had this batch gave no result for this request."),
    "dead": ("batch_request_failed", "This request was given up: every attempt to work on it broke off."),
}

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request of a batch came to. place: its place in its chunk. text: its line of the result file."""

    place: int
    is_ok: bool
    text: bytes
    input_tokens: int = 0
    output_tokens: int = 0


def result_prefix(batch_id: str) -> str:
    """The id of a result says which line of which batch it is, so that it is the same however often it is made."""
    return f"batch_req_{batch_id.removeprefix('batch_')}_"


def answered_line(custom_id: str, result_id: str, status: int, request_id: str, body: str) -> str:
    """Any answer of the API, errors included. body: its JSON."""
    if "\n" in body or "\r" in body:
        body = _encode(json.loads(body))
    head = f'{{"id":{_encode(result_id)},"custom_id":{_encode(custom_id)},"response":{{"status_code":{status}'
    return f'{head},"request_id":{_encode(request_id)},"body":{body}}},"error":null}}'


def unanswered_line(custom_id: str, result_id: str, why: Unanswered) -> str:
    """A request that was never answered."""
    code, message = _REASONS[why]
    error = {"code": code, "message": message}
    return _encode({"id": result_id, "custom_id": custom_id, "response": None, "error": error})


def encode_part(outcomes: list[Outcome]) -> bytes:
    """`<place> <line>` each, in any order."""
    return b"".join(piece for each in outcomes for piece in (b"%d " % each.place, each.text, b"\n"))


def decode_part(data: bytes) -> dict[int, bytes]:
    """The lines by their place, without a line break."""
    entries = (entry.partition(b" ") for entry in data.split(b"\n") if entry)
    return {int(place): line for place, _, line in entries}
