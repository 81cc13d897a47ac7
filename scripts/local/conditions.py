"""Everything a test sets and reads: faults, latencies and counters of every emulated target."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from aiohttp import web

from scripts.local.faults import ANY_REGION, REGION_PREFIX, SLOW_ITL_S, SLOW_TTFT_S, Fault, FaultRegistry

SINGLE_TARGETS = ("ai", "embed", "vectorize", "kv", "do", "ledger", "upstream")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds added to an answer. rtt_s and ttft_s before the first byte, itl_s before each later token."""

    ttft_s: float = 0.0
    itl_s: float = 0.0
    rtt_s: float = 0.0

    def under(self, fault: Fault | None) -> "Latency":
        """This latency with what the fault's kind adds to it."""
        if fault is not None and fault.kind == "slow":
            return replace(self, ttft_s=self.ttft_s or SLOW_TTFT_S)
        if fault is not None and fault.kind == "slow-stream":
            return replace(self, itl_s=self.itl_s or SLOW_ITL_S)
        return self

    def merged_with(self, *, ttft_s: float | None, itl_s: float | None, rtt_s: float | None) -> "Latency":
        """This latency with the given parts replaced; None leaves a part as it is."""
        return Latency(
            self.ttft_s if ttft_s is None else ttft_s,
            self.itl_s if itl_s is None else itl_s,
            self.rtt_s if rtt_s is None else rtt_s,
        )

    @property
    def before_first_byte_s(self) -> float:
        return self.rtt_s + self.ttft_s


@dataclass(slots=True)
class Counters:
    """Calls since the last reset. `cancelled`: the caller left before its answer was complete."""

    arrived: Counter[str] = field(default_factory=Counter)
    cancelled: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        self.arrived.clear()
        self.cancelled.clear()


class Conditions:
    """Scope: one emulator process. Targets: SINGLE_TARGETS and `cloud:<region>` of each region."""

    def __init__(self, region_rtts_s: dict[str, float], *, seed: int = 0) -> None:
        self.regions = tuple(region_rtts_s)
        self.faults = FaultRegistry(seed=seed)
        self.counters = Counters()
        self._initial = {target: Latency() for target in SINGLE_TARGETS}
        self._initial |= {REGION_PREFIX + name: Latency(rtt_s=rtt_s) for name, rtt_s in region_rtts_s.items()}
        self._latencies = dict(self._initial)

    @property
    def targets(self) -> tuple[str, ...]:
        return (*self._initial, ANY_REGION)

    def latency(self, target: str) -> Latency:
        return self._latencies[target]

    def change_latency(
        self,
        target: str,
        *,
        ttft_s: float | None = None,
        itl_s: float | None = None,
        rtt_s: float | None = None,
    ) -> None:
        """Replace the given parts; target `cloud` means every region."""
        for name in self._matching(target):
            latency = self._latencies[name]
            self._latencies[name] = latency.merged_with(ttft_s=ttft_s, itl_s=itl_s, rtt_s=rtt_s)

    def restore_latencies(self) -> None:
        self._latencies = dict(self._initial)

    def counters_as_json(self) -> dict[str, object]:
        arrived, cancelled = self.counters.arrived, self.counters.cancelled
        counts: dict[str, object] = {target: arrived[target] for target in SINGLE_TARGETS}
        counts["cloud"] = {name: arrived[REGION_PREFIX + name] for name in self.regions}
        counts["cancelled"] = {target: cancelled[target] for target in self._initial}
        return counts

    async def counted(self, target: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The handler's response, with the call and its possible cancellation counted for the target."""
        self.counters.arrived[target] += 1
        return await self.watched(target, request, handler)

    async def watched(self, target: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The handler's response; only a caller that leaves early is counted."""
        is_complete = False
        try:
            response = await handler(request)
            is_complete = True
        except ConnectionResetError:
            return web.Response()  # nobody is left to read it
        else:
            return response
        finally:
            if not is_complete:
                self.counters.cancelled[target] += 1

    def _matching(self, target: str) -> Iterable[str]:
        if target == ANY_REGION:
            return [REGION_PREFIX + name for name in self.regions]
        return [target]
