"""The service in process: a scripted upstream behind it and a caller in front of it, no sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from cloud_fallback.app import create_app
from cloud_fallback.settings import Settings

KEY = "sk-upstream-secret-0123456789"
STALL = None

Step = bytes | Exception | asyncio.Event | None


def chunk(text: str = "hi", **fields: Any) -> bytes:
    """One ordinary event of a chat stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-4o-2024"}
    return b"data: " + json.dumps({**head, "choices": [choice], **fields}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 17,
    "model": "gpt-4o-2024",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüße 👋"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


class ScriptedBody(httpx.AsyncByteStream):
    """Bytes are sent, exceptions raised, events waited for; `STALL` waits for ever."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self.is_closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._steps:
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, Exception):
                raise step
            else:
                await (step or asyncio.Event()).wait()

    async def aclose(self) -> None:
        self.is_closed.set()


@dataclass
class FakeUpstream(httpx.AsyncBaseTransport):
    """Answers every call with the same script and keeps what it was asked."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    failure: Exception | None = None
    never_answers: bool = False
    asked: list[httpx.Request] = field(default_factory=list)
    bodies: list[ScriptedBody] = field(default_factory=list)
    is_cancelled: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def streaming(cls, *steps: Step) -> "FakeUpstream":
        return cls(steps, headers={"content-type": "text/event-stream; charset=utf-8"})

    @classmethod
    def plain(cls, body: object, status: int = 200, **headers: str) -> "FakeUpstream":
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls([raw], status=status, headers={"content-type": "application/json", **names})

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.arrived.set()
        if self.failure is not None:
            raise self.failure
        if self.never_answers:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.is_cancelled = True
                raise
        body = ScriptedBody(self.steps)
        self.bodies.append(body)
        return httpx.Response(self.status, headers=self.headers, stream=body)

    @property
    def says_nothing(self) -> bool:
        """It never gets beyond a comment."""
        said = [step for step in self.steps if isinstance(step, bytes) and not step.startswith(b":")]
        return self.never_answers or (self.falls_silent and not said)

    @property
    def falls_silent(self) -> bool:
        """Before its end."""
        return STALL in self.steps and DONE not in self.steps

    @property
    def asked_body(self) -> bytes:
        return self.asked[-1].content


def service(upstream: httpx.AsyncBaseTransport, **settings: Any) -> FastAPI:
    """The app, with short timeouts where they are waited for: elsewhere a busy machine must not meet them."""
    script = upstream if isinstance(upstream, FakeUpstream) else FakeUpstream()
    defaults: dict[str, Any] = {
        "upstream_url": "https://upstream.test/v1",
        "upstream_key": KEY,
        "region": "eu-west",
        "fallback_auth": "open",
        "attempts": 1,
        "first_byte_timeout_s": 0.05 if script.says_nothing else 10.0,
        "stream_idle_s": 0.05 if script.falls_silent else 10.0,
    }
    return create_app(Settings(**{**defaults, **settings}), upstream)


async def call(
    app: FastAPI, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """One request through ASGI; `body` is sent as it is when bytes, else as JSON."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = {"content-type": "application/json"} if content is not None else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cloud.test") as client:
        return await client.request(method, path, content=content, headers={**kind, **(headers or {})})


async def chat(upstream: httpx.AsyncBaseTransport, *, stream: bool = False, **fields: Any) -> httpx.Response:
    """One chat request to a fresh service."""
    body = {"model": "gpt-4o", "messages": [], "stream": stream, **fields}
    return await call(service(upstream), "POST", "/v1/chat/completions", body)


class Conversation:
    """One request whose answer is seen part by part, and that can be hung up on."""

    def __init__(self, app: FastAPI, body: Mapping[str, Any], path: str = "/v1/chat/completions") -> None:
        self.status: int | None = None
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._request = [
            {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False},
        ]
        self._hung_up = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "server": ("cloud.test", 80),
            "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", b"application/json")],
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def hang_up(self) -> None:
        self._hung_up.set()

    async def _receive(self) -> dict[str, Any]:
        if self._request:
            return self._request.pop()
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            self.parts.put_nowait(message["body"])


def events(body: bytes) -> list[Any]:
    """The data of each event of a well-formed stream, parsed; `[DONE]` stays a string."""
    assert body.endswith(b"\n\n")
    blocks = [block for block in body.decode().split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


def assert_lawful_failure(body: bytes, code: str = "upstream_error") -> None:
    """Exactly one error event, as the last but one, then `[DONE]`."""
    *before, error, done = events(body)
    assert done == "[DONE]"
    assert not [event for event in before if event == "[DONE]" or "error" in event]
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["code"] == code
    assert error["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
    assert error["object"] == "chat.completion.chunk"
    assert error["id"] == "chatcmpl-1"
    assert error["created"] == 17
    assert error["model"] == "gpt-4o-2024"
