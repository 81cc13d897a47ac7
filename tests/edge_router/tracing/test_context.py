"""`traceparent` and `tracestate`, as W3C Trace Context has them."""

import pytest

from edge_router.tracing.context import MAX_TRACESTATE, TraceContext, read_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("given", "sent_on"),
    [
        pytest.param(GOOD, GOOD, id="as it came"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00", id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-ff", GOOD, id="flags of a later version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-more", GOOD, id="a later version, with more"),
        pytest.param(f" {GOOD}\t", GOOD, id="white space around"),
    ],
)
def test_valid(given: str, sent_on: str) -> None:
    """Sent on as version 00, the one that we speak."""
    context = read_context({"traceparent": given})

    assert context is not None
    assert context.headers() == {"traceparent": sent_on}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="empty"),
        pytest.param("00-1-2-01", id="too short"),
        pytest.param(GOOD.upper(), id="upper case"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="version ff"),
        pytest.param(f"{GOOD}-more", id="version 00 with more"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01.more", id="a later version, run together"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no span"),
        pytest.param(f"{GOOD}, {GOOD}", id="twice"),
        pytest.param(f"00-{TRACE}-{SPAN}-0x", id="no flags"),
    ],
)
def test_invalid(given: str) -> None:
    """As if there were none, and `tracestate` with it."""
    assert read_context({"traceparent": given, "tracestate": "a=1"}) is None


@pytest.mark.parametrize(
    ("given", "sent_on"),
    [
        pytest.param("rojo=1,congo=t61", "rojo=1,congo=t61", id="as it came"),
        pytest.param("", "", id="none"),
        pytest.param("a=" + "x" * MAX_TRACESTATE, "", id="too long"),
        pytest.param("a=\u00e9", "", id="not ASCII"),
        pytest.param("a=1\r\nx: 1", "", id="a second header"),
    ],
)
def test_state(given: str, sent_on: str) -> None:
    """Is passed on as it came; what can't be is left out, and the trace goes on."""
    context = read_context({"traceparent": GOOD, "tracestate": given})

    assert context == TraceContext(TRACE, SPAN, True, sent_on)
    assert ("tracestate" in context.headers()) == bool(sent_on)
