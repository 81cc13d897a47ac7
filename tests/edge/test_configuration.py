"""A Worker whose variables are wrong, on the real runtime."""

import pytest

from scripts.local.stack import StackError, running_stack

pytestmark = pytest.mark.workerd


def test_misspelt_variable() -> None:
    """Nothing is answered, and one line of the log says which variable it is and what was meant."""
    with pytest.raises(StackError) as caught, running_stack(variables={"RATE_LIMITS": "off"}):
        pass

    assert "RATE_LIMITS: no such variable, did you mean RATE_LIMIT" in str(caught.value)
