"""One upstream stream rewritten as an OpenAI chat stream, event by event. Pure: bytes in, JSON texts out.

The law: a stream that ended without `[DONE]` and without a finish reason was cut, and so was one that sent
anything we can't read; `error` says so and the caller must be told. Nothing is invented to make it look whole.
"""

import json
from collections.abc import Mapping
from typing import Any

from . import completions
from .catalog import Shape
from .errors import GatewayError, UpstreamError
from .sse import DONE, Decoder, EventTooLarge
from .workers_ai import finish_reason

MAX_CHOICES = 128  # of one answer, and tool calls of one choice: OpenAI's own limit for both


class StreamRelay:
    """Feed it an upstream's bytes; it returns the chunks to send on and remembers the whole answer.

    The chunk with the finish reason is held back until the stream's end is known, so that the report can
    ride on the last chunk; `closing` returns it. Scope: one upstream attempt.
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
    ) -> None:
        self._shape = shape
        self._decoder = Decoder()
        self._head: dict[str, Any] = {"id": completion_id, "created": created_s, "model": model}
        self._limit_tokens = limit_tokens
        self._include_usage = include_usage
        self._held: list[str] = []
        self._choices: dict[int, _Choice] = {}
        self._usage: Mapping[str, Any] | None = None
        self.has_content = False
        self.is_done = False
        self.error: GatewayError | None = None

    def feed(self, data: bytes) -> list[str]:
        """JSON texts of the chunks to send now. After `error` or `is_done` there are no more."""
        if self.is_done or self.error:
            return []
        try:
            events = self._decoder.feed(data)
        except EventTooLarge as exc:
            self.error = UpstreamError("The model sent an event that is too large.")
            self.error.__cause__ = exc
            return []
        return self._relay(events)

    def end(self) -> list[str]:
        """To be called when the upstream's bytes are over: settles whether the answer is whole."""
        if self.is_done or self.error:
            return []
        sent = self._relay(self._decoder.flush())
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
            usage, _ = self.usage("")
            closing.append(completions.dump({**self._chunk({}, 0), "choices": [], "usage": usage}))
        return closing

    def error_chunk(self, error: GatewayError) -> str:
        """The one chunk that ends a broken stream: OpenAI's error object and a finish reason `error`."""
        return completions.dump({**self._chunk({}, 0, "error"), **error.to_body()})

    def usage(self, input_text: str) -> tuple[dict[str, Any], bool]:
        """Token counts so far, and whether they are estimated."""
        output_text = "".join("".join(choice.text) for choice in self._choices.values())
        return completions.usage_of(self._usage, input_text, output_text)

    def completion(self, input_text: str) -> dict[str, Any]:
        """The whole answer as a plain completion, as the cache keeps it."""
        choices = [
            completions.choice(
                "".join(choice.text) or None,
                choice.finish_reason or "stop",
                index=index,
                tool_calls=choice.tool_calls,
            )
            for index, choice in sorted(self._choices.items())
        ]
        usage, _ = self.usage(input_text)
        return completions.completion(
            completion_id=self._head["id"],
            created_s=self._head["created"],
            model=self._head["model"],
            choices=choices,
            usage=usage,
        )

    def _relay(self, events: list[str]) -> list[str]:
        sent: list[str] = []
        for data in events:
            if data == DONE:
                self._finish(sent)
                break
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                self.error = UpstreamError("The model sent an event that is not valid JSON.")
                break
            if not isinstance(event, dict) or event.get("error"):
                self.error = UpstreamError("The model's stream broke off with an error.")
                break
            if self._shape == "native" and "choices" not in event:
                self._relay_native(event, sent)
            else:
                self._relay_openai(event, data, sent)
            if self.error:
                break
        return sent

    def _finish(self, sent: list[str]) -> None:
        """`[DONE]`: whole if anything was answered. Native streams end without a finish reason of their own."""
        if not self._choices:
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

    def _relay_native(self, event: dict[str, Any], sent: list[str]) -> None:
        if event.get("usage"):
            self._usage = event["usage"]
        if event.get("model"):
            self._head["model"] = str(event["model"])
        text = event.get("response")
        if not text and not event.get("tool_calls") and not event.get("finish_reason"):
            return
        delta: dict[str, Any] = {}
        if text:
            delta["content"] = text if isinstance(text, str) else completions.dump(text)
        if event.get("tool_calls"):
            delta["tool_calls"] = [
                {
                    "index": i,
                    "id": call.get("id") or f"call_{self._head['id'][-24:]}{i}",
                    "type": "function",
                    "function": {
                        "name": call.get("name"),
                        "arguments": call["arguments"]
                        if isinstance(call.get("arguments"), str)
                        else completions.dump(call.get("arguments") or {}),
                    },
                }
                for i, call in enumerate(event["tool_calls"])
            ]
        chunk = self._chunk(delta, 0, event.get("finish_reason"))
        self._send(chunk, None, sent)

    def _relay_openai(self, event: dict[str, Any], data: str, sent: list[str]) -> None:
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        if event.get("model"):
            self._head["model"] = str(event["model"])
        if event.get("id"):
            self._head["id"] = str(event["id"])
        choices = event.get("choices")
        if not isinstance(choices, list):
            self.error = UpstreamError("The model sent a chunk without choices.")
            return
        if not choices:
            return
        whole = all(key in event for key in ("id", "object", "created", "model"))
        if not whole:
            event = {**self._chunk({}, 0), **event}
        if event.get("usage") is not None:
            event = {**event, "usage": None}
            whole = False
        self._send(event, data if whole else None, sent)

    def _send(self, event: dict[str, Any], data: str | None, sent: list[str]) -> None:
        """Remember the chunk and send it, or hold it back when it carries a finish reason.

        data: the chunk's own text, sent as it came unless something had to be added.
        """
        finished = False
        for entry in event["choices"]:
            delta = entry.get("delta") if isinstance(entry, dict) else None
            if not isinstance(delta, dict):
                self.error = UpstreamError("The model sent a choice without a delta.")
                return
            index = entry.get("index", 0)
            if not isinstance(index, int) or not 0 <= index < MAX_CHOICES:
                self.error = UpstreamError("The model sent a choice with an impossible index.")
                return
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice()
                if delta.get("role") != "assistant":
                    entry["delta"] = delta = {"role": "assistant", **delta}
                    data = None
            if choice.take(delta, entry.get("finish_reason")):
                self.has_content = True
            finished = finished or bool(entry.get("finish_reason"))
        self._flush_held(sent)
        text = completions.dump(event) if data is None else data
        if finished:
            self._held.append(text)
        else:
            sent.append(text)

    def _flush_held(self, sent: list[str]) -> None:
        sent.extend(self._held)
        self._held.clear()

    def _chunk(self, delta: Mapping[str, Any], index: int, finish: str | None = None) -> dict[str, Any]:
        return completions.chunk(self._head, delta, index=index, finish_reason=finish)


class _Choice:
    """What one choice of a stream has said so far."""

    __slots__ = ("finish_reason", "text", "tool_calls")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.tool_calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None

    def take(self, delta: Mapping[str, Any], finish: object) -> bool:
        """Adds one delta; True when it carried something a reader would see, or the end."""
        content = delta.get("content")
        if isinstance(content, str) and content:
            self.text.append(content)
        for call in delta.get("tool_calls") or ():
            self._take_call(call)
        if isinstance(finish, str) and finish:
            self.finish_reason = finish
        return bool(
            content or delta.get("tool_calls") or delta.get("reasoning_content") or delta.get("refusal") or finish
        )

    def _take_call(self, piece: Mapping[str, Any]) -> None:
        position = piece.get("index", 0)
        if not isinstance(position, int) or not 0 <= position < MAX_CHOICES:
            return
        while len(self.tool_calls) <= position:
            self.tool_calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call = self.tool_calls[position]
        function = piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""
