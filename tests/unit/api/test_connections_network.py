"""Behind a corporate network: proxies, private certificates, and no netrc."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from pingdata_async import ConfigurationError, JobOutput, TransportError
from pingdata_async.api.config import ClientSettings
from pingdata_async.api.connections import tls_context
from pingdata_async.util.redaction import Secret
from tests.support.ports import free_port
from tests.support.servers import (
    TOKEN,
    ConnectProxy,
    LocalApi,
    RawServer,
    always,
    client_of,
    raw_server,
    server_tls,
)

HOST = "api.example.test"  # resolves nowhere: only a proxy leads there
PENDING = {"request": {"status": "PENDING"}}


@asynccontextmanager
async def behind_a_proxy(
    authority: trustme.CA, credentials: str | None = None
) -> AsyncIterator[tuple[LocalApi, ConnectProxy, RawServer]]:
    tls = server_tls(authority, HOST, "127.0.0.1", "localhost")
    async with LocalApi(always(PENDING), tls) as api:
        proxy = ConnectProxy(api.port, credentials)
        async with raw_server(proxy) as server:
            yield api, proxy, server


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("prefix", ["http://", ""])
async def test_https_goes_through_the_proxy(
    variable: str,
    prefix: str,
    authority: trustme.CA,
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variables name the proxy, with or without a scheme; it never sees the token."""
    async with behind_a_proxy(authority) as (api, proxy, server):
        monkeypatch.setenv(variable, f"{prefix}127.0.0.1:{server.port}")
        async with client_of(f"https://{HOST}", ca_bundle=ca_file) as client:
            assert (await client.status("J")).status == "PENDING"
            await client.fetch_output("J", JobOutput("/api/v1/sov/J/output/o.json"))
    assert set(proxy.targets) == {f"{HOST}:443"}
    assert [seen.authorization for seen in api.seen] == [f"Token {TOKEN}"] * 2
    assert all(TOKEN.encode() not in head for head in proxy.heads)


@pytest.mark.parametrize("bypass", ["127.0.0.1", "localhost,127.0.0.1", "*"])
async def test_no_proxy_is_honoured(
    bypass: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that NO_PROXY names are asked directly."""
    async with behind_a_proxy(authority) as (api, proxy, server):
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        monkeypatch.setenv("NO_PROXY", bypass)
        async with client_of(api.url, ca_bundle=ca_file) as client:
            await client.status("J")
    assert len(api.seen) == 1
    assert proxy.targets == []


async def test_plain_http_to_this_machine_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would see the token in plain http, so loopback is asked directly."""
    proxy = ConnectProxy(0)
    async with LocalApi(always(PENDING)) as api, raw_server(proxy) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, server.url)
        async with client_of(api.url) as client:
            await client.status("J")
        assert server.connections == 0


async def test_proxy_credentials_work(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user and password in the proxy's url are sent to it, decoded, and to nobody else."""
    async with behind_a_proxy(authority, "me:p@ss/w") as (api, proxy, server):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss%2Fw@127.0.0.1:{server.port}")
        async with client_of(f"https://{HOST}", ca_bundle=ca_file) as client:
            await client.status("J")
    assert len(proxy.targets) == 1
    assert all("Proxy-Authorization" not in seen.headers for seen in api.seen)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hidden@127.0.0.1:{port}",  # refused: the wrong password
        "http://me:hidden@127.0.0.1:{closed}",
        "http://me:hidden@no-such-proxy.invalid:3128",
        "http://me:hidden\u20ac@127.0.0.1:{port}",
    ],
)
async def test_proxy_credentials_are_in_no_message(
    url: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a proxy fails, its password is not in the error; nothing was sent."""
    closed = free_port()
    async with behind_a_proxy(authority, "me:right") as (api, _proxy, server):
        monkeypatch.setenv("HTTPS_PROXY", url.format(port=server.port, closed=closed))
        async with client_of(f"https://{HOST}", ca_bundle=ca_file) as client:
            with pytest.raises(TransportError) as caught:
                await client.submit([{"id": "0"}], sources=["PG"])
    assert api.seen == []
    assert caught.value.maybe_sent is False
    error: BaseException | None = caught.value
    while error is not None:
        assert "hidden" not in f"{error}{error!r}"
        error = error.__cause__


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("socks5://me:hidden@127.0.0.1:1080", "a SOCKS proxy, which is not supported"),
        ("SOCKS5H://me:hidden@127.0.0.1", "a SOCKS proxy, which is not supported"),
        ("socks4a://hidden@127.0.0.1:1080", f"set NO_PROXY={HOST}"),
        ("http://me:hi/hidden@127.0.0.1:3128", "percent-encoded"),  # the slash
        ("http://hidden:hid#hidden@127.0.0.1:3128", "percent-encoded"),
        ("http://me:hidden@127.0.0.1:port", "percent-encoded"),
    ],
)
async def test_a_proxy_of_no_use_is_said_on_opening(
    variable: str, url: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent, in one sentence, without its password; NO_PROXY does without it."""
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigurationError, match=says) as caught:
        async with client_of(f"https://{HOST}"):
            pass
    assert "hidden" not in f"{caught.value!r} {caught.value.__cause__!r}"
    monkeypatch.setenv("NO_PROXY", HOST)
    async with client_of(f"https://{HOST}") as client:
        assert client.base_url == f"https://{HOST}"


@pytest.mark.parametrize("by", ["HOME", "NETRC"])
async def test_netrc_is_never_read(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials for the host in a netrc file do not take the token's place."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login eve password pw\ndefault login eve password pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv(by, str(tmp_path if by == "HOME" else netrc))
    async with (
        LocalApi(always({"id": "J", **PENDING})) as api,
        LocalApi(always({})) as other,
        client_of(api.url) as client,
    ):
        await client.submit([{"id": "0"}], sources=["PG"])
        await client.status("J")
        await client.fetch_output("J", JobOutput(f"{other.url}/o.json"))
    assert [seen.authorization for seen in api.seen] == [f"Token {TOKEN}"] * 2
    assert [seen.authorization for seen in other.seen] == [None]


@pytest.mark.parametrize("as_text", [True, False])
async def test_ca_bundle_option(as_text: bool, authority: trustme.CA, ca_file: Path) -> None:
    """A private certificate authority is trusted when its file is given."""
    async with (
        LocalApi(always(PENDING), server_tls(authority, "127.0.0.1")) as api,
        client_of(api.url, ca_bundle=str(ca_file) if as_text else ca_file) as client,
    ):
        await client.status("J")
    assert len(api.seen) == 1


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_ca_bundle_variables(
    name: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables that other tools use for a private authority are taken."""
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv(name, str(ca_file))
    async with (
        LocalApi(always(PENDING), server_tls(authority, "127.0.0.1")) as api,
        client_of(api.url) as client,
    ):
        await client.status("J")
    assert len(api.seen) == 1


def test_the_systems_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none are named, those of the system are trusted, as Python finds them."""
    monkeypatch.delenv("SSL_CERT_FILE")
    settings = ClientSettings(base_url="https://api.example.com", token=Secret("t"))
    of_system = ssl.create_default_context().get_ca_certs(binary_form=True)
    assert tls_context(settings).get_ca_certs(binary_form=True) == of_system


async def test_ca_bundle_precedence(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option wins over SSL_CERT_FILE, and that over REQUESTS_CA_BUNDLE."""
    foreign = tmp_path / "foreign.pem"
    trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.write_to_path(str(foreign))
    async with LocalApi(always(PENDING), server_tls(authority, "127.0.0.1")) as api:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(foreign))
        async with client_of(api.url) as client:
            await client.status("J")
        async with client_of(api.url, ca_bundle=foreign) as client:
            with pytest.raises(TransportError):
                await client.status("J")


async def test_unknown_authority_is_explained(authority: trustme.CA) -> None:
    """Without the authority's file, the error names the option that would help."""
    async with (
        LocalApi(always(PENDING), server_tls(authority, "127.0.0.1")) as api,
        client_of(api.url) as client,
    ):
        with pytest.raises(TransportError, match="--ca-bundle") as caught:
            await client.status("J")
    assert "certificate" in str(caught.value).lower()
    assert "\n" not in str(caught.value)
    assert api.seen == []


async def test_wrong_host_name_is_refused(authority: trustme.CA, ca_file: Path) -> None:
    """A trusted certificate of another host is not enough."""
    async with (
        LocalApi(always(PENDING), server_tls(authority, "example.com")) as api,
        client_of(api.url, ca_bundle=ca_file) as client,
    ):
        with pytest.raises(TransportError, match="certificate") as caught:
            await client.status("J")
    assert caught.value.maybe_sent is False
    assert api.seen == []


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x00\xff", b"-----BEGIN CERTIFICATE"])
@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_unusable_ca_bundle(
    content: bytes | None, variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that is missing or garbage is said so on opening, with its name."""
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    if variable is not None:
        monkeypatch.delenv("SSL_CERT_FILE")
        monkeypatch.setenv(variable, str(path))
    client = client_of("https://127.0.0.1:1", **({} if variable else {"ca_bundle": path}))
    with pytest.raises(ConfigurationError, match=r"bundle\.pem") as caught:
        async with client:
            pass
    assert "\n" not in str(caught.value)


async def test_folder_of_certificates(tmp_path: Path) -> None:
    """A folder is taken where a file is."""
    async with client_of("https://127.0.0.1:1", ca_bundle=tmp_path) as client:
        assert client.base_url == "https://127.0.0.1:1"
