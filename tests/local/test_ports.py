"""Ports for servers that are told where to listen."""

import contextlib
import socket

from scripts.local.ports import free_ports


def test_ports_are_different_and_free() -> None:
    """A server can listen on each, all at the same time."""
    with contextlib.ExitStack() as servers:
        for port in free_ports(50):
            servers.enter_context(socket.create_server(("127.0.0.1", port)))
