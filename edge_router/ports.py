"""What the gateway needs of the outside world. Adapters: `src/` in the Worker, `tests/fakes.py` in tests."""

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, Protocol

from .settings import Region


class Clock(Protocol):
    """Both clocks only move after I/O inside a deployed Worker."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...

    def elapsed_ms(self) -> float:
        """Milliseconds on a clock for durations; its zero means nothing."""
        ...


class Store(Protocol):
    """Text by key, eventually consistent. Every method may raise StoreError."""

    async def get(self, key: str) -> str | None: ...

    async def put(self, key: str, value: str, *, ttl_s: int) -> None:
        """ttl_s: at least 60, the platform's minimum."""
        ...


class UpstreamResponse(Protocol):
    """An upstream's answer whose headers have arrived."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None: ...

    async def text(self) -> str:
        """The whole body. Raises UpstreamError when it breaks off."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamError when it breaks off."""
        ...

    async def cancel(self) -> None:
        """Tells the upstream that nobody listens any more. Never raises; harmless after the end."""
        ...


class EdgeModels(Protocol):
    """Workers AI."""

    async def run(self, model_id: str, inputs: Mapping[str, Any]) -> UpstreamResponse:
        """Any status. Raises UpstreamError when the platform can't be reached."""
        ...


class CloudRegions(Protocol):
    """cloud_fallback in its regions."""

    async def post(self, region: Region, path: str, body: str, headers: Mapping[str, str]) -> UpstreamResponse:
        """Any status. Raises CloudUnavailable when the region can't be reached."""
        ...


class Background(Protocol):
    """Work that goes on after the response, up to 30 s in a Worker. Scope: request."""

    def run(self, work: Coroutine[Any, Any, None]) -> None: ...


class Log(Protocol):
    """One structured line. Never given prompts, answers or keys."""

    def event(self, name: str, **facts: str | int | float | None) -> None: ...
