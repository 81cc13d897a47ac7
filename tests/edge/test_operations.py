"""What operators look at, and the limits that production turns on."""

import httpx
import pytest

from scripts.local.stack import running_stack
from tests.edge.control import Control

pytestmark = pytest.mark.workerd


def test_ready_names_what_is_missing(edge: httpx.Client, control: Control) -> None:
    """200 while all parts answer; 503 that names the one that does not."""
    well = edge.get("/ready")
    control.fault("cloud:weur", "refuse")

    ill = edge.get("/ready")

    assert well.status_code == 200
    assert ill.status_code == 503
    assert ill.json()["checks"] == {"cloud:wnam": True, "cloud:weur": False, "cache": True, "vectors": True}


@pytest.mark.parametrize("kind", ["error", "timeout"])
def test_ready_without_a_cache(edge: httpx.Client, control: Control, kind: str) -> None:
    """A store that fails or hangs is named as well; nobody waits for it for long."""
    control.fault("kv", kind)

    ill = edge.get("/ready")

    assert ill.status_code == 503
    assert ill.json()["checks"] == {"cloud:wnam": True, "cloud:weur": True, "cache": False, "vectors": True}


def test_tenant_that_asks_too_often_is_told_to_wait() -> None:
    """The rate limiting binding counts per tenant: 429 with Retry-After once its limit is reached."""
    limit = 5
    limiter = {"name": "RATE_LIMITER", "namespace_id": "1", "simple": {"limit": limit, "period": 60}}
    with (
        running_stack(auth="keys", variables={"RATE_LIMIT": "on"}, config={"ratelimits": [limiter]}) as (_, address),
        httpx.Client(base_url=address.url, headers={"authorization": f"Bearer {address.key}"}) as client,
    ):
        # Windows are minutes of the wall clock: the first requests may fall into the one before.
        responses = [client.get("/v1/models") for _ in range(2 * limit + 1)]

    assert responses[0].status_code == 200
    assert responses[-1].status_code == 429
    assert responses[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert int(responses[-1].headers["retry-after"]) > 0
