"""The record of an API key: every field of it, and that a record which can't be used is not used in part."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.allowed_models import AllowedModels
from edge_router.auth import Tenant
from edge_router.budgets.policy import Budget, SpendingLimits
from edge_router.caching.policy import TenantPolicy
from edge_router.key_records import BrokenRecord, read_record
from edge_router.limits.policy import Limits

HASH = "0f" * 32
LEAST: dict[str, Any] = {"tenant": "acme", "hashes": [HASH]}


def tenant(**fields: object) -> Tenant:
    return read_record(json.dumps({**LEAST, **fields})).to_tenant()


def test_least_that_a_record_says() -> None:
    """A tenant and a hash: such a key may ask models, as everyone, and nothing else."""
    assert tenant() == Tenant("acme", scopes=frozenset({"infer"}))


def test_everything_that_a_record_can_say() -> None:
    """What is for people (name, created_at_s) goes no further."""
    told = tenant(
        name="reports", created_at_s=1_790_000_000, expires_at_s=1_800_000_000.5, disabled=False,
        scopes=["infer", "metrics"], models=["edge", "gpt-4o*"], residency="eu",
        limits={"requests_per_minute": 60, "concurrency": 4, "strict": True, "on_failure": "fail_closed"},
        budget={"usd_day": 5, "on_failure": "fail_open"},
        semantic_cache=True, semantic_threshold=0.9, cascade="race",
        cache_ttl_s=60, cache_swr_s=0, cache_stale_if_error_s=5, cache_normalisation="relaxed",
    )  # fmt: skip

    assert told == Tenant(
        "acme",
        semantic_cache=True,
        semantic_threshold=0.9,
        cascade="race",
        cache=TenantPolicy(60, 0, 5, "relaxed"),
        scopes=frozenset({"infer", "metrics"}),
        residency="eu",
        models=AllowedModels(("edge", "gpt-4o*")),
        budget=Budget(SpendingLimits(nano_usd_day=5 * 10**9), "fail_open"),
        limits=Limits(60, 4, True, "fail_closed"),
    )


@pytest.mark.parametrize(
    "hashes",
    [
        pytest.param([HASH], id="one"),
        pytest.param([HASH, "ab" * 32], id="two, while one replaces the other"),
        pytest.param([{"sha256": HASH, "expires_at_s": 1_790_000_000}, {"sha256": HASH}], id="with an end"),
    ],
)
def test_hashes(hashes: list[object]) -> None:
    """Alone, or with the time until which they count."""
    assert read_record(json.dumps({**LEAST, "hashes": hashes})).hashes[0].sha256 == HASH


BROKEN = [
    ("tenant", None),
    ("tenant", ""),
    ("tenant", "open"),
    ("tenant", "a\nb"),
    ("tenant", "ä"),
    ("tenant", "x" * 65),
    ("hashes", []),
    ("hashes", [HASH] * 3),
    ("hashes", HASH),
    ("hashes", ["é" * 64]),
    ("hashes", [HASH.upper()]),
    ("hashes", [{"sha256": HASH, "not_after": 1}]),
    ("scopes", []),
    ("scopes", "admin"),
    ("scopes", ["root"]),
    ("scopes", ["admin", 1]),
    ("models", []),
    ("models", ["a*b"]),
    ("models", [""]),
    ("models", "gpt-4o"),
    ("models", ["a b"]),
    ("residency", "EU"),
    ("residency", ""),
    ("residency", 1),
    ("limits", {}),
    ("limits", {"strict": True}),
    ("limits", {"requests_per_minute": 0}),
    ("limits", {"requests_per_minute": 1.5}),
    ("limits", {"requests_per_minute": "60"}),
    ("limits", {"requests_per_minute": True}),
    ("limits", {"concurrency": -1}),
    ("limits", {"concurrency": 1, "on_failure": "open"}),
    ("limits", {"concurrency": 1, "burst": 2}),
    ("budget", {}),
    ("budget", {"usd_day": -1}),
    ("budget", {"usd_daily": 1}),
    ("expires_at_s", "2027-01-01"),
    ("expires_at_s", 1_790_000_000_000),
    ("expires_at_s", True),
    ("disabled", "no"),
    ("disabled", 1),
    ("name", "x" * 101),
    ("semantic_cache", "yes"),
    ("semantic_threshold", 0),
    ("semantic_threshold", 1.01),
    ("semantic_threshold", True),
    ("cascade", "maybe"),
    ("cache_ttl_s", 0),
    ("cache_swr_s", -1),
    ("cache_normalisation", "loose"),
    ("residancy", "eu"),
]


@pytest.mark.parametrize(("field", "value"), BROKEN)
def test_field_that_can_not_be_used(field: str, value: object) -> None:
    """Nor can the record, even if the field is only misspelt; the error names the field and not its value."""
    with pytest.raises(BrokenRecord, match=field) as caught:
        tenant(**{field: value})

    assert HASH not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param("[" * 10_000, id="nested too deeply"),
        pytest.param(json.dumps({**LEAST, "name": " " * 20_000}), id="too long"),
        pytest.param(json.dumps({"tenant": "acme"}), id="no hashes"),
        pytest.param(json.dumps({"hashes": [HASH]}), id="no tenant"),
        pytest.param('{"tenant": "acme", "hashes": ["' + HASH + '"], "expires_at_s": Infinity}', id="no end of time"),
        pytest.param('{"tenant": "acme", "hashes": ["' + HASH + '"], "semantic_threshold": NaN}', id="no number"),
    ],
)
def test_text_that_is_no_record(text: str) -> None:
    """One kind of error for all."""
    with pytest.raises(BrokenRecord):
        read_record(text)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
_FIELDS = st.sampled_from([*{field for field, _ in BROKEN}, "other"])


@settings(max_examples=300)
@given(fields=st.dictionaries(_FIELDS, _VALUES, max_size=5))
def test_any_record(fields: dict[str, object]) -> None:
    """Gives a tenant or the one error."""
    try:
        found = tenant(**fields)
    except BrokenRecord:
        return

    assert found.id
