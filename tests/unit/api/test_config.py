"""Settings: what cannot work is refused when they are made."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async import ConfigurationError, PingDataClient
from pingdata_async.api.config import (
    ENVIRONMENTS,
    ClientSettings,
    check_base_url,
    find_ca_bundle,
    is_loopback,
    resolve_base_url,
)
from pingdata_async.util.redaction import Secret


def settings(**options: Any) -> ClientSettings:
    defaults: dict[str, Any] = {
        "base_url": "https://example.com",
        "token": Secret("t"),
        "ca_bundle": None,
    }
    return ClientSettings(**defaults | options)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("connect", "submit", "read") for value in (0, -1.0, float("nan"))],
)
def test_time_outs_are_positive(name: str, value: float) -> None:
    """A time-out of nothing is refused by its name."""
    with pytest.raises(ConfigurationError, match=f"{name}_timeout_s must be above 0"):
        settings(**{f"{name}_timeout_s": value})


@pytest.mark.parametrize("name", ["max_connections", "max_body_bytes"])
def test_limits_are_positive(name: str) -> None:
    """So are limits below one."""
    with pytest.raises(ConfigurationError, match=f"{name} must be at least 1"):
        settings(**{name: 0})


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        (None, "https://data-api.sovfixer.com"),
        ("prod", "https://data-api.sovfixer.com"),
        ("prodeu", "https://api.eu.pingintel.com"),
        ("staging", "https://data-api-staging.sovfixer.com"),
        ("dev", "https://api-dev.pingintel.com"),
    ],
)
def test_environments(environment: str | None, host: str) -> None:
    """Each environment has its published host; a url wins over it."""
    assert resolve_base_url(None, environment) == host
    assert resolve_base_url(" https://example.com/x/ ", environment) == "https://example.com/x"


@pytest.mark.parametrize(
    ("name", "says"), [("production", "prodeu"), ("sandbox", "before it is started")]
)
def test_unknown_environments(name: str, says: str) -> None:
    """An unknown name brings up those that there are; the sandbox has no url of its own."""
    with pytest.raises(ConfigurationError, match=says):
        resolve_base_url(None, name)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must begin with https://"),
        ("example.com", "must begin with https://"),
        ("ftp://example.com", "must begin with https://"),
        ("https://", "must begin with https://"),
        ("https://example.com:x", "cannot be read"),
        ("https://[", "cannot be read"),
        ("https://me:pw@example.com", "user name or password"),
        ("https://example.com?x=1", "query or fragment"),
        ("https://example.com#x", "query or fragment"),
        ("http://example.com", "plain http"),
        ("http://localhost.example.com", "plain http"),
        ("http://127.0.0.1.example.com", "plain http"),
        ("http://0.0.0.0", "plain http"),
    ],
)
def test_unusable_urls(url: str, says: str) -> None:
    """A url that cannot work is refused with what is wrong with it."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        check_base_url(url)
    assert "pw" not in str(caught.value)


@given(url=st.text(max_size=40) | st.text(max_size=30).map(lambda rest: "http://" + rest))
def test_any_url_is_taken_or_refused(url: str) -> None:
    """Whatever is given as a url: usable, or a ConfigurationError."""
    try:
        check_base_url(url)
    except ConfigurationError:
        return
    assert url.lower().lstrip("".join(map(chr, range(33)))).startswith("http")


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("localhost", True),
        ("api.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        (None, False),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.1", False),
    ],
)
def test_loopback(host: str | None, is_one: bool) -> None:
    """Only this machine counts as this machine."""
    assert is_loopback(host) is is_one


def test_ca_bundle_of_the_environment() -> None:
    """SSL_CERT_FILE wins over REQUESTS_CA_BUNDLE; empty variables count as none."""
    both = {"SSL_CERT_FILE": "/a", "REQUESTS_CA_BUNDLE": "/b"}
    assert find_ca_bundle(both) == Path("/a")
    assert find_ca_bundle(both | {"SSL_CERT_FILE": ""}) == Path("/b")
    assert find_ca_bundle({}) is None


def test_secrets() -> None:
    """A secret compares and reveals, but is neither shown nor pickled."""
    secret = Secret("hidden")
    assert secret == Secret("hidden")
    assert secret != Secret("other")
    assert secret != "hidden"
    assert len({secret, Secret("hidden")}) == 1
    assert "hidden" not in f"{secret}{secret!r}"
    assert secret.reveal() == "hidden"
    with pytest.raises(TypeError) as caught:
        pickle.dumps(secret)
    assert "hidden" not in str(caught.value)


def test_settings_are_frozen() -> None:
    """Settings are not changed under a running client."""
    with pytest.raises(AttributeError):
        settings().base_url = "https://example.org"  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "prod"), ({"environment": "dev"}, "dev"), ({"api_url": "https://example.com"}, None)],
)
def test_name_of_the_environment(options: dict[str, Any], name: str | None) -> None:
    """Who only gave a url is in no named environment."""
    assert PingDataClient(**options).environment == name
    assert name is None or name in ENVIRONMENTS


def test_certificates_in_a_folder_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's folder is told in a sentence, as a missing file is."""

    def refuse(path: Path, **_others: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)  # root may look into every folder
    with pytest.raises(ConfigurationError, match="out of reach"):
        ClientSettings(
            base_url="https://example.com", token=Secret("t"), ca_bundle=tmp_path / "ca.pem"
        )


@pytest.mark.parametrize(
    ("variables", "options", "api_url"),
    [
        ({"ENVIRONMENT": " Staging "}, {}, "https://data-api-staging.sovfixer.com"),
        ({"API_URL": "https://example.com/"}, {}, "https://example.com"),
        ({"API_URL": "https://example.com", "ENVIRONMENT": "dev"}, {}, "https://example.com"),
        ({"API_URL": " ", "ENVIRONMENT": ""}, {}, "https://data-api.sovfixer.com"),
        (
            {"API_URL": "https://example.com"},
            {"environment": "prod"},
            "https://data-api.sovfixer.com",
        ),
        (
            {"ENVIRONMENT": "dev"},
            {"api_url": "https://example.org"},
            "https://example.org",
        ),
    ],
)
def test_an_api_that_variables_name(
    variables: dict[str, str],
    options: dict[str, Any],
    api_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hold as for the command, so nobody pays in production by mistake; arguments win."""
    for name, value in variables.items():
        monkeypatch.setenv(f"PINGDATA_ASYNC_{name}", value)
    assert PingDataClient(**options).api_url == api_url


async def test_an_unknown_environment_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when the client is opened, and the known ones are named."""
    monkeypatch.setenv("PINGDATA_ASYNC_ENVIRONMENT", "nowhere")
    with pytest.raises(ConfigurationError, match="prod, prodeu, staging, dev, sandbox"):
        await PingDataClient(auth_token="t").open()


@pytest.mark.parametrize("by_variables", [True, False])
async def test_a_sandbox_that_has_a_url(
    *, by_variables: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who means to try something for nothing does not pay at that url."""
    if by_variables:
        monkeypatch.setenv("PINGDATA_ASYNC_ENVIRONMENT", "sandbox")
        monkeypatch.setenv("PINGDATA_ASYNC_API_URL", "https://example.com")
        client = PingDataClient(auth_token="t")
    else:
        client = PingDataClient(
            environment="sandbox", api_url="https://example.com", auth_token="t"
        )
    with pytest.raises(ConfigurationError, match="not both"):
        await client.open()
    with pytest.raises(ConfigurationError, match="not both"):
        _ = client.api_url
