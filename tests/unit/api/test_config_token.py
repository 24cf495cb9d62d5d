"""Where the token is looked up, and in which order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pingintel_api import PingDataAPIClient
from pingintel_api.api_client_base import AuthTokenNotFound

from pingdata_async import ConfigurationError, MissingTokenError, PingDataClient
from pingdata_async.api.config import ClientSettings, find_token
from pingdata_async.util.redaction import Secret
from tests.support.servers import TOKEN, LocalApi, always
from tests.support.sweeps import examples

SPACES = {"prod": "PRD", "prodeu": "PRDEU", "staging": "STG", "dev": "DEV"}
PENDING = {"request": {"status": "PENDING"}}


def write_ini(home: Path, text: str) -> Path:
    path = home / ".pingintel.ini"
    path.write_text(text, encoding="utf-8")
    return path


async def token_sent(**options: object) -> str | None:
    async with LocalApi(always(PENDING)) as api:
        client = PingDataClient(api_url=api.url, **options)  # type: ignore[arg-type]  # token or environment
        async with client:
            await client.status("J")
        return api.seen[0].authorization


async def test_argument_is_sent_with_its_prefix() -> None:
    """The token goes out as `Authorization: Token <key>`."""
    assert await token_sent(auth_token=TOKEN) == f"Token {TOKEN}"


async def test_a_prefix_given_along_is_not_doubled() -> None:
    """A token pasted with its prefix works too."""
    assert await token_sent(auth_token=f" Token {TOKEN}\n") == f"Token {TOKEN}"


@pytest.mark.parametrize(("environment", "space"), SPACES.items())
async def test_variable_of_an_environment(
    environment: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each environment has its own variable, which wins over the general one."""
    monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "general")
    monkeypatch.setenv(f"PING_DATA_AUTH_TOKEN_{space}", "own")
    for other in set(SPACES.values()) - {space}:
        monkeypatch.setenv(f"PING_DATA_AUTH_TOKEN_{other}", "foreign")
    assert await token_sent(environment=environment) == "Token own"


@pytest.mark.parametrize("name", ["PING_DATA_AUTH_TOKEN", "PINGDATA_AUTH_TOKEN"])
async def test_general_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both spellings of the general variable are taken."""
    monkeypatch.setenv(name, "general")
    assert await token_sent() == "Token general"


@pytest.mark.parametrize("key", ["PING_DATA_AUTH_TOKEN_PRD", "PING_DATA_AUTH_TOKEN"])
async def test_ini_file(key: str, home: Path) -> None:
    """Both keys of the vendor's ini file are taken, a percent sign in it as it is."""
    write_ini(home, f"[pingdata]\n{key} = from%ini\n")
    assert await token_sent() == "Token from%ini"


def test_order_is_that_of_the_vendor(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, own variable, general variable, own ini key, general ini key."""
    ini = write_ini(home, "[pingdata]\nPING_DATA_AUTH_TOKEN=e\nPING_DATA_AUTH_TOKEN_STG=d\n")
    monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "c")
    monkeypatch.setenv("PING_DATA_AUTH_TOKEN_STG", "b")
    assert find_token("a", "staging").reveal() == "a"
    assert find_token(None, "staging").reveal() == "b"
    monkeypatch.delenv("PING_DATA_AUTH_TOKEN_STG")
    assert find_token(None, "staging").reveal() == "c"
    monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "  ")
    assert find_token(None, "staging").reveal() == "d"
    ini.write_text("[pingdata]\nPING_DATA_AUTH_TOKEN=e\n", encoding="utf-8")
    assert find_token(None, "staging").reveal() == "e"


async def test_missing_token_names_every_place() -> None:
    """Whoever has no token reads everywhere it was looked for."""
    with pytest.raises(MissingTokenError) as caught:
        async with PingDataClient(environment="dev"):
            pass
    for place in (
        "auth_token",
        "--auth-token-file",
        "PING_DATA_AUTH_TOKEN_DEV",
        "PING_DATA_AUTH_TOKEN,",
        "PINGDATA_AUTH_TOKEN",
        "~/.pingintel.ini",
        "[pingdata]",
    ):
        assert place in str(caught.value)


@pytest.mark.parametrize("token", ["", "   ", "two words", "snow☃man", "line\nbreak", "bell\a"])
async def test_token_that_no_header_can_carry(token: str) -> None:
    """An unusable token is refused on opening, without being shown."""
    with pytest.raises(ConfigurationError) as caught:
        async with PingDataClient(auth_token=token):
            pass
    assert token.strip() == "" or token not in str(caught.value)


@pytest.mark.parametrize("content", [b"SECRET-no-section\n", b"[pingdata]\n\xff\xfe SECRET\n"])
async def test_broken_ini_is_named_but_not_quoted(content: bytes, home: Path) -> None:
    """A broken ini file is an error that names the file, not the line: it may be the token."""
    (home / ".pingintel.ini").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"\.pingintel\.ini") as caught:
        async with PingDataClient():
            pass
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_settings_mask_the_token() -> None:
    """Neither settings nor the secret itself show the token."""
    settings = ClientSettings(base_url="https://example.com", token=Secret(TOKEN))
    for shown in (repr(settings), str(settings), f"{settings.token}", repr(settings.token)):
        assert TOKEN not in shown
        assert "***" in shown


NAMES = ["PING_DATA_AUTH_TOKEN", *(f"PING_DATA_AUTH_TOKEN_{space}" for space in SPACES.values())]
PLACES = st.dictionaries(st.sampled_from(NAMES), st.text("abc123", max_size=3), max_size=3)


@given(
    environment=st.sampled_from([None, *SPACES]),
    variables=PLACES,
    keys=PLACES,
    section=st.sampled_from(["pingdata", "sovfixer"]),
)
@examples(200)
def test_the_same_token_as_the_vendors_client(
    environment: str | None,
    variables: Mapping[str, str],
    keys: Mapping[str, str],
    section: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever is set up for that client is what ours finds, for every environment."""
    home = tmp_path_factory.getbasetemp()
    lines = [f"{key} = {value}\n" for key, value in keys.items()]
    (home / ".pingintel.ini").write_text(f"[{section}]\n" + "".join(lines), encoding="utf-8")
    with mock.patch.dict(os.environ, {**variables, "HOME": str(home)}):
        try:
            theirs = PingDataAPIClient(environment=environment).auth_token
        except AuthTokenNotFound:
            theirs = None
        try:
            ours = find_token(None, environment).reveal()
        except MissingTokenError:
            ours = None
    assert ours == theirs
