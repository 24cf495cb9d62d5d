"""Secrets are taken out of texts, in whatever way they are written there."""

from __future__ import annotations

import base64
import copy
import gc
import html
import json
import logging
import pickle
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async import BulkEnhancer, PingDataClient, PingDataError
from pingdata_async.api.wire import error_message
from pingdata_async.util.redaction import Secret, masked
from pingdata_async.util.text import excerpt, shown_url
from tests.support.servers import TOKEN
from tests.support.sweeps import examples

SECRET = 'k3y/With+all=of"it\\&-_<é>'

WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in lower case": str.lower,
    "in a url": lambda text: quote(text, safe=""),
    "in a url, twice": lambda text: quote(quote(text, safe="")),
    "in JSON": json.dumps,
    "in JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "each character escaped": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "some characters escaped": lambda text: f"\\u{ord(text[0]):04x}{text[1:]}",
    "as Python shows bytes": lambda text: "".join(f"\\x{ord(c):02x}" for c in text),
    "in a page": html.escape,
    "in a page, by numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in a header in base64": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "in the other base64": lambda text: base64.urlsafe_b64encode(f"u:{text}!".encode()).decode(),
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("text", [SECRET, TOKEN])
def test_a_secret_is_masked_however_it_is_written(text: str, write: Callable[[str], str]) -> None:
    """At most the ends of base64 are left, which depend on what is beside it as well."""
    secret = Secret(text)
    shown = masked(f"before {write(text)} after")
    assert "***" in shown
    assert len(shown) <= len("before VG9rZW4g***0==!! after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert masked("before and after") == "before and after"
    del secret


@examples(20)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=6, max_size=30))
def test_any_text_can_be_a_secret(text: str) -> None:
    """A password may hold whatever a keyboard has."""
    secret = Secret(text)
    for write in (str, json.dumps, lambda text: quote(text, safe="")):
        assert text not in masked(f"<{write(text)}>")
    del secret


def test_too_short_a_secret_is_none() -> None:
    """Taking it out would make texts unreadable."""
    secret = Secret("any")
    assert masked("not any more") == "not any more"
    del secret


def test_a_secret_is_forgotten_with_its_client() -> None:
    """What is a secret no more is not looked for for ever."""
    secret = Secret("only-for-a-while")
    assert masked("only-for-a-while") == "***"
    del secret
    gc.collect()
    Secret("the next one")
    assert masked("only-for-a-while") == "only-for-a-while"


@pytest.mark.parametrize("url", ["http://me:pa@ss@proxy:1/x", "socks5://only-user@proxy:1/x"])
def test_user_info_in_a_url_is_always_masked(url: str) -> None:
    """Also of urls that nobody told us of."""
    scheme = url.partition(":")[0]
    assert masked(f"see {url}, or mail a@b") == f"see {scheme}://***@proxy:1/x, or mail a@b"


def test_no_half_of_a_secret_is_left_where_a_text_is_cut() -> None:
    """It is taken out before a text is shortened."""
    secret = Secret(TOKEN)
    for size in range(0, 400, 3):
        filler = "x" * size
        for shown in (
            error_message(f"{filler}{TOKEN}".encode()),
            excerpt(f"{filler}{TOKEN}".encode()),
            shown_url(f"https://example.com/{filler}{TOKEN}"),
        ):
            assert TOKEN[:4] not in shown
    del secret


def test_a_secret_that_looks_like_markup_is_masked_in_a_page() -> None:
    """Nothing of it is left where the markup of an error page is taken out."""
    secret = Secret("k3y<of>many<parts")
    page = "<html><body>Token k3y<of>many<parts</body></html>"
    assert error_message(page.encode()) == "Token ***"
    del secret


def test_errors_and_logs_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever makes an error or a log of this package out of a secret's text."""
    secret = Secret(TOKEN)
    assert str(PingDataError(f"it said {TOKEN}")) == "it said ***"
    logger = logging.getLogger("pingdata_async")
    try:
        raise RuntimeError(f"it said {TOKEN}")
    except RuntimeError:
        logger.exception("failed: %s", f"Token {TOKEN}")
    assert "failed: Token ***" in caplog.text
    assert "RuntimeError: it said ***" in caplog.text
    assert TOKEN not in caplog.text
    del secret


def test_masking_takes_linear_time() -> None:
    """Backslashes and ampersands without end are no way to hold up the process."""
    secret = Secret("\\" * 10 + TOKEN)
    for filler in ("\\", "&#0", "%25", "://", "a@"):
        masked(filler * 20_000)
    del secret


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_not_pickled(take: Callable[[object], object]) -> None:
    """It would take the token along; so would what holds a client."""
    client = PingDataClient(auth_token=TOKEN)
    for each in (client, BulkEnhancer(client, sources=["PG"])):
        if each is not client and take is copy.copy:
            continue  # on the same client
        with pytest.raises(TypeError, match="a PingDataClient is neither pickled nor copied") as e:
            take(each)
        assert TOKEN not in str(e.value)
    assert TOKEN not in repr(vars(client))
