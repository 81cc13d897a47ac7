"""Ports on loopback for servers that are told where to listen before they start."""

import contextlib
import random
import socket

# Below those that Linux and macOS give to outgoing connections: one of these that is opened between the choice and the
# listening, or while a server is down to be started again, would hold the port.
RANGE = range(20_000, 32_000)


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Next to each other. Nothing keeps them free for long: listen soon."""
    while True:
        first = random.choice(RANGE)
        ports = list(range(first, first + count))
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in ports:
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports
