"""What simulations need of the tests' surroundings."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def blockbuster() -> None:
    """In the place of the usual one: here what threads would do is done in the event loop."""
