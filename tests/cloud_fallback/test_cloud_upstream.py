"""One upstream's calls: who may pass while another call decides, and for how long."""

import asyncio

import pytest

from cloud_fallback.errors import UpstreamUnavailable
from cloud_fallback.models import UpstreamEntry
from cloud_fallback.settings import Settings
from cloud_fallback.upstream import Upstream
from tests.cloud_fallback.harness import FakeUpstream


def hinted(**settings: str) -> Upstream:
    """An upstream that another replica has just called sick."""
    made = Settings(fallback_auth="open", upstream_url="https://up.test/v1", **settings)  # type: ignore[arg-type]  # by pydantic
    upstream = Upstream(UpstreamEntry(id="up", base_url="https://up.test/v1"), None, made, FakeUpstream())
    upstream.health("m")
    upstream.open_by_hint("m", 0.5)
    return upstream


async def test_stream_that_decides() -> None:
    """Has decided at its first byte: others pass while it goes on. Its place is its own until the end."""
    upstream = hinted()
    soon_s = asyncio.get_running_loop().time() + 5
    stream = await upstream.enter("m", soon_s)
    with pytest.raises(UpstreamUnavailable):
        await upstream.enter("m", soon_s)

    stream.note_first_byte()
    other = await upstream.enter("m", soon_s)

    assert upstream.bulkhead.in_flight == 2
    other.end(has_succeeded=True)
    stream.end(has_succeeded=False)
    assert (upstream.bulkhead.in_flight, upstream.health("m").is_closed) == (0, True)


async def test_hint_without_breakers() -> None:
    """Changes nothing where breakers are off: no success would close them again."""
    assert hinted(breakers="off").health("m").is_closed
