"""A fresh emulator for each test, on free ports of this process."""

from collections.abc import AsyncIterator

import pytest

from scripts.local.emulator import EmulatorConfig
from tests.local.emulator_client import Emulator, started


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with started(EmulatorConfig()) as emulator:
        yield emulator
