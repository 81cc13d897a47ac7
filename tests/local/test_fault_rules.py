"""Which calls a fault strikes."""

import pytest

from scripts.local.faults import Fault, FaultRegistry, Rule


def test_counted_rules_form_a_script() -> None:
    """Oldest first, each until its count is used up, then health."""
    registry = FaultRegistry()
    registry.add(Rule("ai", Fault("error"), count=2))
    registry.add(Rule("ai", Fault("429"), count=1))

    kinds = [fault.kind if (fault := registry.take("ai")) else None for _ in range(4)]

    assert kinds == ["error", "error", "429", None]
    assert registry.as_json() == []


def test_rate_is_a_seeded_probability() -> None:
    """The same seed strikes the same calls."""

    def strikes(seed: int) -> list[bool]:
        registry = FaultRegistry(seed=seed)
        registry.add(Rule("ai", Fault("error"), rate=0.3))
        return [registry.take("ai") is not None for _ in range(1000)]

    assert strikes(1) == strikes(1)
    assert strikes(1) != strikes(2)
    assert 250 < sum(strikes(1)) < 350


@pytest.mark.parametrize(
    ("rule_target", "call_target", "is_struck"),
    [
        pytest.param("cloud", "cloud:wnam", True, id="cloud is every region"),
        pytest.param("cloud:wnam", "cloud:wnam", True, id="one region"),
        pytest.param("cloud:wnam", "cloud:weur", False, id="another region"),
        pytest.param("ai", "embed", False, id="embeddings are not ai"),
    ],
)
def test_target(rule_target: str, call_target: str, is_struck: bool) -> None:
    registry = FaultRegistry()
    registry.add(Rule(rule_target, Fault("error")))

    assert (registry.take(call_target) is not None) is is_struck


def test_a_probe_does_not_use_up_a_count_but_sees_lasting_faults() -> None:
    registry = FaultRegistry()
    registry.add(Rule("cloud", Fault("error"), count=1))
    registry.add(Rule("cloud", Fault("refuse")))

    probe, call = registry.take("cloud:wnam", is_probe=True), registry.take("cloud:wnam")

    assert (probe, call) == (Fault("refuse"), Fault("error"))


@pytest.mark.parametrize(
    ("fault", "expected"), [(Fault("cut"), 3), (Fault("malformed"), 0), (Fault("cut", 0), 0), (Fault("cut", 7), 7)]
)
def test_healthy_chunks(fault: Fault, expected: int) -> None:
    assert fault.healthy_chunks == expected
