"""One upstream stream rewritten as an OpenAI chat stream, event by event. Pure: bytes in, JSON texts out.

The law: a stream that ended without `[DONE]` and without a finish reason was cut, and so was one that sent
anything we can't read; `error` says so and the caller must be told. Nothing is invented to make it look whole.
"""

import json
import re
from collections.abc import Callable, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # unknown to typeshed
from typing import Any

from . import completions
from .catalog import Shape
from .errors import GatewayError, UpstreamError
from .mending import mend_chunk, mend_head
from .sse import DONE, BadStream, Decoder
from .workers_ai import finish_reason, tool_calls_of

MAX_CHOICES = 128  # of one answer, and tool calls of one choice: OpenAI's own limit for both
_CONTENT = re.compile(r'"content"\s*:\s*"')
_VISIBLE_TEXT = ("content", "refusal", "reasoning_content", "reasoning")
_VISIBLE = (*_VISIBLE_TEXT, "function_call")


class StreamRelay:
    """Feed it an upstream's bytes; it returns the chunks to send on and remembers the whole answer.

    The chunk with the finish reason is held back until the stream's end is known, so that the report can
    ride on the last chunk; `closing` returns it. Scope: one upstream attempt.

    input_tokens: the estimate, asked when the upstream does not count.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        completion_id: str,
        created_s: int,
        model: str,
        limit_tokens: int,
        include_usage: bool,
        input_tokens: Callable[[], int],
    ) -> None:
        self._shape = shape
        self._decoder = Decoder()
        self._head: dict[str, Any] = {"id": completion_id, "created": created_s, "model": model}
        self._limit_tokens = limit_tokens
        self._include_usage = include_usage
        self._input_tokens = input_tokens
        self._held: list[str] = []
        self._choices: dict[int, _Choice] = {}
        self._usage: Mapping[str, Any] | None = None
        self._usual: _Usual | None = None
        self._around_text: tuple[str, str] | None = None
        self.deltas = 0
        self.has_content = False
        self.is_done = False
        self.error: GatewayError | None = None

    def feed(self, data: bytes) -> list[str]:
        """JSON texts of the chunks to send now. After `error` or `is_done` there are no more."""
        if self.is_done or self.error:
            return []
        try:
            return self._relay(self._decoder.feed(data))
        except BadStream as exc:
            self.error = UpstreamError(f"The model's stream can't be read: {exc}.")
            return []

    def end(self) -> list[str]:
        """To be called when the upstream's bytes are over: settles whether the answer is whole."""
        if self.is_done or self.error:
            return []
        try:
            sent = self._relay(self._decoder.flush())
        except BadStream:  # cut inside a character
            self.error = UpstreamError("The model's stream ended before the answer was complete.", code="stream_cut")
            return []
        if self.is_done or self.error:
            return sent
        if self._choices and all(choice.finish_reason for choice in self._choices.values()):
            self.is_done = True
        else:
            self.error = UpstreamError("The model's stream ended before the answer was complete.", code="stream_cut")
        return sent

    def closing(self) -> list[str]:
        """The chunks that were held back, to be sent before `[DONE]`; at least one, for the report."""
        closing, self._held = self._held or [completions.dump(self._chunk({}, 0))], []
        if self._include_usage:
            usage, _ = self.usage()
            closing.append(completions.dump({**self._chunk({}, 0), "choices": [], "usage": usage}))
        return closing

    def error_chunk(self, error: GatewayError) -> str:
        """The one chunk that ends a broken stream: OpenAI's error object and a finish reason `error`."""
        return completions.dump({**self._chunk({}, 0, "error"), **error.to_body()})

    def text(self) -> str:
        """What the first choice has said so far."""
        return "".join(self._choices[0].text) if 0 in self._choices else ""

    @property
    def calls_tools(self) -> bool:
        return any(choice.tool_calls for choice in self._choices.values())

    def usage(self) -> tuple[dict[str, Any], bool]:
        """Token counts so far, and whether they are estimated."""
        return completions.usage_of(self._usage, self._input_tokens, self._output_text)

    def completion(self) -> dict[str, Any]:
        """The whole answer as a plain completion, as the cache keeps it."""
        choices = [
            completions.choice(
                "".join(choice.text) or None,
                choice.finish_reason or "stop",
                index=index,
                tool_calls=choice.tool_calls,
                refusal="".join(choice.refusal) or None,
            )
            for index, choice in sorted(self._choices.items())
        ]
        usage, _ = self.usage()
        return completions.completion(
            completion_id=self._head["id"],
            created_s=self._head["created"],
            model=self._head["model"],
            choices=choices,
            usage=usage,
        )

    def _output_text(self) -> str:
        return "".join(text for choice in self._choices.values() for text in (*choice.text, *choice.beside_content))

    def _relay(self, events: list[str]) -> list[str]:
        sent: list[str] = []
        for data in events:
            if data == DONE:
                self._finish(sent)
                break
            try:
                self._relay_event(data, sent)
            except UpstreamError as exc:
                self.error = exc
                break
        return sent

    def _relay_event(self, data: str, sent: list[str]) -> None:
        if self._usual is not None and self._usual.take(data):
            self.deltas += 1
            sent.append(data)
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise UpstreamError("The model sent an event that is not valid JSON.") from exc
        if not isinstance(event, dict):
            raise UpstreamError("The model sent an event that is no object.")
        self._usual = None  # whatever it is, it may be unlike the one before
        if event.get("error"):
            raise UpstreamError("The model's stream broke off with an error.")
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        known = dict(self._head)
        for name in ("id", "model"):
            if isinstance(event.get(name), str) and event[name]:
                self._head[name] = event[name]
        if type(event.get("created")) is int:
            self._head["created"] = event["created"]
        if self._head != known:
            self._around_text = None
        if self._shape == "native" and "choices" not in event:
            self._relay_native(event, sent)
        else:
            self._relay_openai(event, data, sent)

    def _relay_native(self, event: dict[str, Any], sent: list[str]) -> None:
        delta: dict[str, Any] = {}
        text = event.get("response")
        if text:
            delta["content"] = text if isinstance(text, str) else completions.dump(text)
        calls = tool_calls_of(event.get("tool_calls") or None, self._head["id"])
        if calls:
            delta["tool_calls"] = [{"index": position, **call} for position, call in enumerate(calls)]
        finish = event.get("finish_reason")
        if text and len(event) == 1 and self._choices:
            self._choices[0].text.append(delta["content"])
            self.deltas += 1
            sent.append(self._text_chunk(delta["content"]))
        elif delta or finish:
            self._send(self._chunk(delta, 0, finish if isinstance(finish, str) else None), None, sent)

    def _relay_openai(self, event: dict[str, Any], data: str, sent: list[str]) -> None:
        choices = event.get("choices")
        if not isinstance(choices, list):
            raise UpstreamError("The model sent a chunk without choices.")
        if not choices:
            return
        own_text: str | None = data
        lacking = {name: made for name, made in self._head.items() if not completions.is_like(event.get(name), made)}
        if mend_head(event, "chat.completion.chunk") or lacking:
            event = {**event, **lacking}
            own_text = None
        if event.get("usage") is not None:  # it comes in a chunk of its own, if it was asked for
            event = {**event, "usage": None}
            own_text = None
        self._send(event, own_text, sent)

    def _send(self, event: dict[str, Any], data: str | None, sent: list[str]) -> None:
        """Remember the chunk and send it, or hold it back when it carries a finish reason.

        data: the chunk's own text, sent as it came unless something had to be added.
        """
        finished = False
        for entry in event["choices"]:
            choice, delta, is_new = self._choice(entry)
            if is_new and delta.get("role") != "assistant":
                entry["delta"] = delta = {**delta, "role": "assistant"}
                data = None
            if mend_chunk(entry, delta):
                data = None
            finish = entry.get("finish_reason")
            if choice.take(delta, finish):
                self.has_content = True
                self.deltas += 1
            finished = finished or bool(finish)
        if data is not None and not finished and len(event["choices"]) == 1:
            self._usual = _Usual.of(data, delta, choice)
        self._flush_held(sent)
        text = completions.dump(event) if data is None else data
        if finished:
            self._held.append(text)
        else:
            sent.append(text)

    def _choice(self, entry: object) -> tuple["_Choice", dict[str, Any], bool]:
        """(what this choice has said, its new delta, whether it is new); raises UpstreamError."""
        if not isinstance(entry, dict):
            raise UpstreamError("The model sent a choice that is no object.")
        delta, index = entry.get("delta"), entry.get("index", 0)
        if not isinstance(delta, dict):
            raise UpstreamError("The model sent a choice without a delta.")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < MAX_CHOICES:
            raise UpstreamError("The model sent a choice with an impossible index.")
        known = self._choices.get(index)
        if known is not None:
            return known, delta, False
        new = self._choices[index] = _Choice()
        return new, delta, True

    def _finish(self, sent: list[str]) -> None:
        """`[DONE]`: whole if anything was answered. Native streams end without a finish reason of their own."""
        if not self.has_content:
            self.error = UpstreamError("The model's stream was empty.")
            return
        for index, choice in self._choices.items():
            if not choice.finish_reason:
                output_tokens = (self._usage or {}).get("completion_tokens")
                choice.finish_reason = finish_reason(
                    output_tokens, self._limit_tokens, calls_tools=bool(choice.tool_calls)
                )
                self._flush_held(sent)
                self._held.append(completions.dump(self._chunk({}, index, choice.finish_reason)))
        self.is_done = True

    def _flush_held(self, sent: list[str]) -> None:
        sent.extend(self._held)
        self._held.clear()

    def _text_chunk(self, text: str) -> str:
        """JSON of a chunk that says one more piece, nothing else: only the piece is encoded anew."""
        if self._around_text is None:
            before, _, after = completions.dump(self._chunk({"content": ""}, 0)).partition('""')
            self._around_text = before, after
        return completions.dump(text).join(self._around_text)

    def _chunk(self, delta: Mapping[str, Any], index: int, finish: str | None = None) -> dict[str, Any]:
        return completions.chunk(self._head, delta, index=index, finish_reason=finish)


class _Usual:
    """A chunk as almost all are: one more piece of text, passed on as it came. Those that are the same text around
    another piece need no second look, not even to be parsed. choice: whose piece it is.
    """

    __slots__ = ("_after", "_before", "_start", "_texts")

    def __init__(self, before: str, after: str, choice: "_Choice") -> None:
        self._before = before
        self._after = after
        self._start = len(before)
        self._texts = choice.text

    @classmethod
    def of(cls, data: str, delta: Mapping[str, Any], choice: "_Choice") -> "_Usual | None":
        """None for a chunk that says anything else, or says its text in a way that can't be told from the rest."""
        text = delta.get("content")
        places = _CONTENT.findall(data)
        if len(delta) != 1 or not isinstance(text, str) or not text or len(places) != 1:
            return None
        start = data.index(places[0]) + len(places[0])
        found, end = scanstring(data, start)  # what it stands in has been parsed
        return cls(data[:start], data[end - 1 :], choice) if found == text else None

    def take(self, data: str) -> bool:
        """Whether it is such a chunk again; then its piece is remembered."""
        if not (data.startswith(self._before) and data.endswith(self._after)):
            return False
        try:
            text, end = scanstring(data, self._start)
        except ValueError:
            return False
        if not text or len(data) - end + 1 != len(self._after):
            return False
        self._texts.append(text)
        return True


class _Choice:
    """What one choice of a stream has said so far. beside_content: what else counts as output, in the order it came."""

    __slots__ = ("beside_content", "finish_reason", "refusal", "text", "tool_calls")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.beside_content: list[str] = []
        self.refusal: list[str] = []
        self.tool_calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None

    def take(self, delta: Mapping[str, Any], finish: object) -> bool:
        """Adds one delta; True when it carried something a reader would see, or the end. Raises UpstreamError."""
        for name in _VISIBLE_TEXT:
            if not isinstance(delta.get(name), str | None):
                raise UpstreamError(f"The model sent {name} that is not text.")
        if not isinstance(finish, str | None):
            raise UpstreamError("The model sent a finish reason that is not text.")
        if delta.get("content"):
            self.text.append(delta["content"])
        if delta.get("refusal"):
            self.refusal.append(delta["refusal"])
        calls = delta.get("tool_calls")
        if calls is not None:
            self._take_calls(calls)
        if len(delta) > 1 or not delta.get("content"):
            self.beside_content += completions.beside_content(delta)
        self.finish_reason = finish or self.finish_reason
        return bool(calls or finish or any(delta.get(name) for name in _VISIBLE))

    def _take_calls(self, pieces: object) -> None:
        if not isinstance(pieces, list):
            raise UpstreamError("The model sent tool calls that can't be read.")
        for piece in pieces:
            function = piece.get("function") if isinstance(piece, dict) else None
            if not isinstance(function, dict | None) or not isinstance(piece, dict):
                raise UpstreamError("The model sent tool calls that can't be read.")
            self._take_call(piece, function or {})

    def _take_call(self, piece: Mapping[str, Any], function: Mapping[str, Any]) -> None:
        position = piece.get("index", 0)
        texts = (piece.get("id"), function.get("name"), function.get("arguments"))
        is_place = isinstance(position, int) and not isinstance(position, bool) and 0 <= position < MAX_CHOICES
        if not is_place or not all(isinstance(text, str | None) for text in texts):
            raise UpstreamError("The model sent tool calls that can't be read.")
        while len(self.tool_calls) <= position:
            self.tool_calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, (call_id, name, arguments) = self.tool_calls[position], texts
        call["id"] = call_id or call["id"]
        call["function"]["name"] = name or call["function"]["name"]
        call["function"]["arguments"] += arguments or ""
