"""What every test stands on."""

from __future__ import annotations

import compileall
import gc
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import anyio
import pytest
import trustme
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

import pingdata_async
from pingdata_async import PingDataClient
from pingdata_async.sandbox import SandboxServer
from tests.support.certificates import authority, ca_file
from tests.support.sweeps import EXAMPLES, EXAMPLES_IN_SAMPLE, is_sample, sample_of_cases

__all__ = ["authority", "ca_file"]  # fixtures

# The same examples each time, and no limit of time for one: the machine may be busy.
for profile, most in (("all", EXAMPLES), ("sample", EXAMPLES_IN_SAMPLE)):
    settings.register_profile(
        profile,
        max_examples=most,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )

# Under nohup, or in the background of a script, these are ignored: commands under test would
# inherit that, and go by it.
for _name in ("SIGHUP", "SIGINT"):
    _signal = getattr(signal, _name, None)  # not every system has both
    if _signal is not None and signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.SIG_DFL)

# Commands under test find the package compiled (below), and write nothing beside it: a limit on the
# size of files would leave halves, which Python 3.13.0 takes for whole.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = False

DATA = Path(__file__).parent / "data"
#: Variables that commands and clients under test would heed, in either case.
OF_THIS_MACHINE = frozenset(
    {
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NETRC",
        "NO_PROXY",
        "PINGDATA_AUTH_TOKEN",
        "PING_DATA_AUTH_TOKEN",
        "PING_DATA_AUTH_TOKEN_DEV",
        "PING_DATA_AUTH_TOKEN_PRD",
        "PING_DATA_AUTH_TOKEN_PRDEU",
        "PING_DATA_AUTH_TOKEN_STG",
        "PYTHONASYNCIODEBUG",  # asyncio would say of a busy machine how long its steps take
        "PYTHONDEVMODE",
        "PYTHONUNBUFFERED",  # it hides what goes wrong at the last flush
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "XDG_CONFIG_HOME",
    }
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell pytest of the option by which `scripts/test` takes a sample."""
    parser.addoption("--sample", action="store_true", help="Of a test of many cases run a third.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases; each worker must leave out the same."""
    if config.getoption("sample"):
        sample = sample_of_cases(items)
        kept = set(sample)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = sample


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples are tried, and compile packages once, as an installer does."""
    settings.load_profile("sample" if is_sample(config) else "all")
    # Else each command under test does it anew: of anyio, a plugin, pytest keeps a form of its own.
    # The workers of pytest-xdist come later.
    if not hasattr(config, "workerinput"):
        for package in (pingdata_async, anyio):
            compileall.compile_dir(Path(package.__path__[0]), quiet=2)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep thousands of tests, which stay, from the garbage collector, that would look at them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)  # for each of 6,000 tests, it would take its time
def blockbuster() -> Iterator[BlockBuster]:
    """Fails any test in which the package blocks the event loop."""
    with blockbuster_ctx("pingdata_async") as blockbuster:
        yield blockbuster


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the user's and the machine's folders in tests that put nothing there."""
    place = tmp_path_factory.mktemp("surroundings")
    # The system's certificates take a client 60 ms to read, and thousands are opened.
    (place / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    return place


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, surroundings: Path) -> None:
    """Tokens, proxies, certificates and the like of whoever runs the tests must not matter."""
    monkeypatch.setenv("HOME", str(surroundings / "home"))  # there is none
    for name in tuple(os.environ):
        if name.upper() in OF_THIS_MACHINE or name.startswith("PINGDATA_ASYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(surroundings / "ca.pem"))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own, for a test that puts something there."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    """A sandbox that works at once."""
    async with SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0) as server:
        yield server


@pytest.fixture
async def client(sandbox: SandboxServer) -> AsyncIterator[PingDataClient]:
    """A client of the sandbox."""
    async with PingDataClient(api_url=sandbox.url, auth_token="t") as client:
        yield client
