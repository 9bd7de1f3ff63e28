"""TCP ports for servers of the tests."""

from __future__ import annotations

import random
import socket

#: Below the ports that the kernel gives to outgoing connections (from 32768 on).
_RANGE = range(20_000, 32_000)
_held: list[socket.socket] = []


def free_port() -> int:
    """A port of loopback that nobody listens on, and that no other test of this host gets while this process lives.

    A name in the kernel's abstract namespace of Unix sockets is held for it, which needs no file and no clean-up.
    """
    for port in random.sample(_RANGE, len(_RANGE)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0ecolyzer-tests-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _held.append(claim)
        return port
    raise AssertionError(f"no port from {_RANGE.start} to {_RANGE.stop} is free")


def free_ports(number: int) -> list[int]:
    """So many of them."""
    return [free_port() for _ in range(number)]
