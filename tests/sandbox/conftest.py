import pytest

from tests.sandbox.caller import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
