"""What goes upstream are the caller's own bytes; only what we read is checked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback.calls import Endpoint, parse_call
from cloud_fallback.errors import RequestRejected

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_other_fields_are_unchanged(fields: dict[str, object], is_ascii: bool, indent: int | None) -> None:
    """Unknown fields pass byte for byte, also when the model goes upstream under another name."""
    fields = {**fields, "model": "ours", "stream": True}
    if is_ascii is False:
        fields = {key: value for key, value in fields.items() if key.isascii()}
    body = json.dumps(fields, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "replace")

    call = parse_call(Endpoint.CHAT, body)

    assert call.body_for("ours") is body
    assert json.loads(call.body_for("théirs")) == {**json.loads(body), "model": "théirs"}
    assert call.is_stream


def test_rename_touches_the_model_alone() -> None:
    """Spaces, escapes, the order, numbers and strange floats stay as they were written."""
    body = b' { "z" : 1.0E2 , "model"\n:\t"ou\\u0072s", "a": "\\ud83d\\u0000", "b": 1e400, "u": "\xc3\xbc" } '

    renamed = parse_call(Endpoint.CHAT, body).body_for("theirs")

    assert renamed == body.replace(b'"ou\\u0072s"', b'"theirs"')


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param(b"", "invalid_json", None, id="empty"),
        pytest.param(b"{", "invalid_json", None, id="open"),
        pytest.param(b'{"model": "m"} x', "invalid_json", None, id="more behind"),
        pytest.param(b'{"model": "m",}', "invalid_json", None, id="trailing comma"),
        pytest.param(b'{"model" "m"}', "invalid_json", None, id="no colon"),
        pytest.param(b'{"model": "m" "a": 1}', "invalid_json", None, id="no comma"),
        pytest.param(b'{1: "m"}', "invalid_json", None, id="name is no string"),
        pytest.param(b'{"model": "m", "a": NaN}', "invalid_json", None, id="NaN"),
        pytest.param(b'{"model": "\xff"}', "invalid_json", None, id="not utf-8"),
        pytest.param(b'{"model": "m", "a": ' + b"[" * 100_000, "invalid_json", None, id="deep"),
        pytest.param(b'{"model": "m", "a": ' + b"9" * 5_000 + b"}", "invalid_json", None, id="huge integer"),
        pytest.param(b"nonsense", "invalid_json", None, id="word"),
        pytest.param(b"[]", "invalid_body", None, id="array"),
        pytest.param(b'"text"', "invalid_body", None, id="string"),
        pytest.param(b" {} ", "invalid_value", "model", id="no model"),
        pytest.param(b'{"model": 1}', "invalid_value", "model", id="model is no string"),
        pytest.param(b'{"model": ""}', "invalid_value", "model", id="model is empty"),
        pytest.param(b'{"model": "' + b"m" * 257 + b'"}', "invalid_value", "model", id="model is long"),
        pytest.param(b'{"model": "a", "model": "b"}', "invalid_value", "model", id="model twice"),
        pytest.param(b'{"model": "m", "stream": 1}', "invalid_value", "stream", id="stream is no bool"),
    ],
)
def test_bad_body(body: bytes, code: str, param: str | None) -> None:
    """A body we cannot read is a 400 that names the field, where one is at fault."""
    with pytest.raises(RequestRejected) as caught:
        parse_call(Endpoint.CHAT, body)

    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)


@pytest.mark.parametrize(
    ("endpoint", "fields", "is_stream", "include_usage"),
    [
        (Endpoint.CHAT, {}, False, False),
        (Endpoint.CHAT, {"stream": None, "stream_options": None}, False, False),
        (Endpoint.CHAT, {"stream": True, "stream_options": {"include_usage": True}}, True, True),
        (Endpoint.COMPLETIONS, {"stream": True, "stream_options": {"include_usage": 1}}, True, False),
        (Endpoint.EMBEDDINGS, {"stream": True}, False, False),
    ],
)
def test_stream(endpoint: Endpoint, fields: dict[str, object], is_stream: bool, include_usage: bool) -> None:
    """`null` is false; embeddings are never streamed."""
    call = parse_call(endpoint, json.dumps({"model": "m", **fields}).encode())

    assert (call.is_stream, call.include_usage) == (is_stream, include_usage)
