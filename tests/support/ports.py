"""Ports to come back to: a server that ends, and is there again later."""

from __future__ import annotations

import contextlib
import random
import socket

# Below those that Linux, macOS and Windows give to whoever asks for any.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A free port that nobody is given by chance while no server listens on it."""
    chance = random.SystemRandom()  # other tests look for one too, with the same seed
    while True:
        port = chance.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            return port
