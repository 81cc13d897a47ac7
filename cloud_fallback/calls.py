"""A caller's body, read only as far as we need it; what goes upstream are the caller's own bytes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn

from cloud_fallback.errors import RequestRejected

READ_FIELDS = frozenset(
    {"model", "stream", "stream_options", "n", "prompt", "messages", "tools", "prompt_cache_key"}
    | {"input", "dimensions", "encoding_format", "user"}
)
MAX_MODEL_CHARS = 256
_TEXT_PARTS = ("text", "refusal")
_MEDIA_PARTS = ("image_url", "input_audio", "file")


class Endpoint(Enum):
    """What can be asked; the value is the path below the base URL."""

    CHAT = "/chat/completions"
    COMPLETIONS = "/completions"
    EMBEDDINGS = "/embeddings"

    @property
    def chunk_object(self) -> str:
        """`object` of a stream's chunks."""
        return "chat.completion.chunk" if self is Endpoint.CHAT else "text_completion"


@dataclass(frozen=True, slots=True)
class Call:
    """One checked request.

    model_span: where the model's JSON string stands in the decoded body. choices: how many the answer will have.
    fields: values of READ_FIELDS that are there, not checked. other_fields: names of all the others.
    """

    endpoint: Endpoint
    body: bytes
    model: str
    model_span: tuple[int, int]
    is_stream: bool
    include_usage: bool
    choices: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)
    other_fields: frozenset[str] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """Features that a model must have to be sent this: `vision` for any part that is not text, `tools`."""
        found = {"tools"} if self.fields.get("tools") else set()
        messages = self.fields.get("messages")
        contents = (
            [each.get("content") for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
        )
        parts = [part for content in contents if isinstance(content, list) for part in content]
        if any(isinstance(part, dict) and part.get("type") not in _TEXT_PARTS for part in parts):
            found.add("vision")
        return frozenset(found)

    @property
    def input_chars(self) -> int:
        """Of text, for an estimate of its tokens."""
        return count_chars(self.fields)

    def body_for(self, upstream_id: str, *, extra: Mapping[str, str] | None = None) -> bytes:
        """The caller's bytes; only the model's name is replaced, and only when it is another one.

        extra: fields that the caller has not given, put in front.
        """
        if upstream_id == self.model and not extra:
            return self.body
        text = self.body.decode()
        start, end = self.model_span
        text = text[:start] + json.dumps(upstream_id) + text[end:]
        if extra:
            opening, _, rest = text.partition("{")
            text = f"{opening}{json.dumps(dict(extra))[:-1]}, {rest}"
        return text.encode()


def parse_call(endpoint: Endpoint, body: bytes) -> Call:
    """Raises RequestRejected, with `param` where one field is at fault. Cost: one parse of the body."""
    try:
        fields, others = _top_level(body.decode())
    except (ValueError, RecursionError):
        raise RequestRejected("The body must be valid JSON in UTF-8.", code="invalid_json") from None
    model, span = fields.get("model", _ABSENT)
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARS:
        raise _wrong("model", f"a string of 1 to {MAX_MODEL_CHARS} characters")
    stream, _ = fields.get("stream", _ABSENT)
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "true or false")
    options, _ = fields.get("stream_options", _ABSENT)
    return Call(
        endpoint=endpoint,
        body=body,
        model=model,
        model_span=span,
        is_stream=bool(stream) and endpoint is not Endpoint.EMBEDDINGS,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        choices=_choices(endpoint, fields.get("n", _ABSENT)[0], fields.get("prompt", _ABSENT)[0]),
        fields={name: value for name, (value, _) in fields.items()},
        other_fields=frozenset(others),
    )


def count_chars(value: object) -> int:
    """Of all strings in it, but for images, sound and files."""
    chars, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            chars += len(each)
        elif isinstance(each, Mapping):
            left += [inner for name, inner in each.items() if name not in _MEDIA_PARTS]
        elif isinstance(each, list):
            left += each
    return chars


def _choices(endpoint: Endpoint, n: object, prompt: object) -> int:
    count = n if isinstance(n, int) and n > 0 else 1
    is_many = (
        endpoint is Endpoint.COMPLETIONS and isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    )
    return count * len(prompt) if is_many and isinstance(prompt, list) else count


def _wrong(param: str, expected: str) -> RequestRejected:
    return RequestRejected(f"`{param}` must be {expected}.", param=param, code="invalid_value")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_ABSENT = (None, (0, 0))
_SPACE = re.compile(r"[ \t\n\r]*")


def _top_level(text: str) -> tuple[dict[str, tuple[Any, tuple[int, int]]], list[str]]:
    """The fields we read, each with its place in `text`, and names of the others. Raises ValueError, RequestRejected.

    The object is walked here, and not loaded in one go, because a field that stands there twice could mean
    one model to us and another to the upstream, and because only the model's place tells how to rename it
    without writing every other byte anew.
    """
    at = _skip(text, 0)
    if not text.startswith("{", at):
        _DECODER.decode(text)
        raise RequestRejected("The body must be a JSON object.", code="invalid_body")
    fields: dict[str, tuple[Any, tuple[int, int]]] = {}
    others: list[str] = []
    at = _skip(text, at + 1)
    is_empty = text.startswith("}", at)
    while not is_empty:
        if not text.startswith('"', at):
            raise ValueError("a field's name must be a string")
        name, at = _DECODER.raw_decode(text, at)
        start = _behind(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        if name in READ_FIELDS:
            if name in fields:
                raise RequestRejected(f"`{name}` is there twice.", param=name, code="invalid_value")
            fields[name] = (value, (start, end))
        else:
            others.append(name)
        at = _skip(text, end)
        if text.startswith("}", at):
            break
        at = _behind(text, at, ",")
    if _skip(text, at + 1) != len(text):
        raise ValueError("something follows the object")
    return fields, others


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _behind(text: str, at: int, char: str) -> int:
    """The place behind `char` and the space that follows it. Raises ValueError."""
    if not text.startswith(char, at):
        raise ValueError(f"expected {char}")
    return _skip(text, at + 1)
