"""One request among those of its tenant that run."""

import asyncio


class Stay:
    """Ends once. Scope: request."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        self.ended.set_result(None)
