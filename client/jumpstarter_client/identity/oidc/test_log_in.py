"""Logins that nobody finishes, and strangers at the port to which a browser comes back."""

from __future__ import annotations

import socket
import threading
import urllib.parse
import urllib.request
from typing import Any

import pytest
import trio
import trio.testing
from jumpstarter_proto.https import FetchError, Reply

from jumpstarter_client.identity.oidc import LoginError, Provider, browser, device, discover
from jumpstarter_client.identity.oidc.browser import (
    LOGIN_SECONDS,
    MAX_REQUEST_BYTES,
    REQUEST_SECONDS,
    _answer,
    _Callback,
)
from jumpstarter_client.lease.conftest import FakeIssuer


@pytest.fixture
async def provider(issuer: FakeIssuer) -> Provider:
    return await discover(issuer.url)


class Addresses(trio.abc.HostnameResolver, trio.abc.SocketFactory):
    """`localhost` is two addresses, as where there is IPv6, too; remembers the sockets that were made."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    async def getaddrinfo(self, host: Any, port: Any, *_: object, **__: object) -> Any:
        number = int(port or 0)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (f"127.0.0.{last}", number))
            for last in (1, 2)
        ]

    async def getnameinfo(self, *_: object) -> Any:
        raise NotImplementedError

    def socket(self, family: Any = -1, type: Any = -1, proto: int = -1) -> Any:  # noqa: A002
        self.made.append(trio.socket.from_stdlib_socket(socket.socket(family, type, proto)))
        return self.made[-1]


@pytest.fixture
async def addresses() -> Addresses:
    addresses = Addresses()
    trio.socket.set_custom_hostname_resolver(addresses)
    trio.socket.set_custom_socket_factory(addresses)
    return addresses


def ignore(_: str) -> None:
    pass


async def given() -> Reply:
    return Reply(200, {"access_token": "new"})


# --- with a code


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [(100, 100), (None, 1800), ("soon", 1800), (0, 1800), (-5, 1800), (10**9, 1800)],
)
async def test_a_code_that_nobody_types_is_waited_for_as_long_as_it_counts(
    provider: Provider,
    issuer: FakeIssuer,
    expires: object,
    seconds: float,
    autojump_clock: trio.testing.MockClock,
) -> None:
    issuer.device |= {"expires_in": expires, "interval": 30}
    with trio.fail_after(10000), pytest.raises(LoginError, match="the code expired before anybody logged in"):
        await device.log_in(provider, ignore)
    assert trio.current_time() == pytest.approx(seconds)
    assert {round(when) % 30 for _, when in issuer.posts} == {0}


async def test_a_provider_that_is_away_is_asked_more_rarely(
    provider: Provider, issuer: FakeIssuer, autojump_clock: trio.testing.MockClock
) -> None:
    async def away() -> Reply:
        issuer.answer = given
        raise FetchError("cannot be fetched")

    issuer.answer = away
    assert (await device.log_in(provider, ignore)).token == "new"
    assert [when for _, when in issuer.posts] == pytest.approx([5, 15])


# --- with a browser


async def test_a_browser_that_does_not_come_back_is_waited_for_only_so_long(
    provider: Provider, addresses: Addresses, autojump_clock: trio.testing.MockClock
) -> None:
    test_is_over = threading.Event()
    ended: list[str] = []

    def hang(url: str) -> None:
        test_is_over.wait(5)
        ended.append(url)

    with trio.fail_after(10 * LOGIN_SECONDS), pytest.raises(LoginError, match="within 5 minutes"):
        await browser.log_in(provider, ignore, browse=hang)
    assert trio.current_time() == pytest.approx(LOGIN_SECONDS)
    assert ended == [], "nor is a browser that does not come up"
    test_is_over.set()


def come_back(url: str, **fields: str) -> None:
    """As a browser whose user has logged in at once."""
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
    target = f"{query['redirect_uri'][0]}?{urllib.parse.urlencode({'state': query['state'][0]} | fields)}"
    urllib.request.urlopen(target.replace("localhost", "127.0.0.1"), timeout=30).read()


async def test_a_browser_comes_back_to_the_one_port_that_is_open(
    provider: Provider, issuer: FakeIssuer, addresses: Addresses
) -> None:
    is_open: list[bool] = []

    def tell(_: str) -> None:
        is_open.extend(one.fileno() != -1 for one in addresses.made)

    issuer.answer = given
    with trio.fail_after(30):
        tokens = await browser.log_in(provider, tell, browse=lambda url: come_back(url, code="c"))
    assert tokens.token == "new"
    assert issuer.posts[0][0]["code"] == "c"
    assert is_open == [True, False]
    assert [one.fileno() for one in addresses.made] == [-1, -1]


async def test_a_login_that_was_refused_says_why(provider: Provider, issuer: FakeIssuer) -> None:
    with trio.fail_after(30), pytest.raises(LoginError, match="rejected the login: not today"):
        await browser.log_in(
            provider, ignore, browse=lambda url: come_back(url, error_description="not today")
        )
    assert issuer.posts == []


async def asked(found: _Callback, *pieces: bytes) -> bytes:
    """What `_answer` says to a stranger who sends this and no more, and when it has let go of them."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await _answer(theirs, state="s", found=found)
        await theirs.aclose()

    page = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        for piece in pieces:
            await ours.send_all(piece)
        while data := await ours.receive_some():
            page += bytes(data)
    return page


async def test_a_stranger_who_says_nothing_or_too_much_is_not_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found = _Callback()
    with trio.fail_after(10 * REQUEST_SECONDS):
        assert await asked(found, b"GET /callback") == b""
        assert trio.current_time() == pytest.approx(REQUEST_SECONDS)
        page = await asked(found, b"x" * MAX_REQUEST_BYTES)
    assert page.startswith(b"HTTP/1.1 404")
    assert trio.current_time() == pytest.approx(REQUEST_SECONDS), "it was answered at once"
    assert not found.came.is_set()


async def test_only_who_knows_the_state_is_trusted_and_the_first_of_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found = _Callback()
    for state in (b"", b"t"):
        page = await asked(found, b"GET /callback?code=bad&state=" + state + b" HTTP/1.1\r\n")
        assert page.startswith(b"HTTP/1.1 404")
    for code in (b"first", b"second"):
        page = await asked(found, b"GET /callback?code=" + code + b"&state=s HTTP/1.1\r\n")
        assert b"You are logged in" in page
    assert found.fields == {"code": "first", "state": "s"}
