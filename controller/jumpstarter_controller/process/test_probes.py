"""What probes are told of a process, and where it says that it can be reached."""

from __future__ import annotations

import socket
from http import HTTPStatus
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import Server

from jumpstarter_controller.process.certificates import Certificate, CertificateError
from jumpstarter_controller.process.health import Health
from jumpstarter_controller.process.http_pages import Page
from jumpstarter_controller.process.serving import (
    ListenAddressError,
    ListeningServer,
    given_certificate,
    listen,
    probe_pages,
    reachable,
    split_address,
)


async def test_a_probe_is_told_what_is_and_what_will_be() -> None:
    numbers = Page(b"numbers")

    async def page() -> Page:
        return numbers

    said = {"trouble": "", "warning": ""}
    health, other = Health([]), Health([])
    served = [ListeningServer(Server([]), [], one) for one in (None, health, other)]
    pages = probe_pages(page, served, lambda: said["trouble"], lambda: said["warning"])

    async def asked(path: str) -> tuple[HTTPStatus, bytes]:
        found = await pages[path]()
        return found.status, found.body

    assert await pages["/metrics"]() is numbers
    good = (HTTPStatus.OK, b"ok\n")
    assert (await asked("/healthz"), await asked("/readyz")) == (good, good)
    said["warning"] = "it ends soon"
    warned = (HTTPStatus.OK, b"ok\nwarning: it ends soon\n")
    assert (await asked("/healthz"), await asked("/readyz")) == (warned, warned)
    said |= {"warning": "", "trouble": "the disk is full"}
    away = HTTPStatus.SERVICE_UNAVAILABLE
    assert (await asked("/healthz"), await asked("/readyz")) == (good, (away, b"the disk is full\n"))
    other.leave()
    assert (await asked("/healthz"), await asked("/readyz")) == (good, (away, b"it is shutting down\n"))


async def test_where_others_reach_it_is_said_as_they_write_it() -> None:
    host = socket.gethostname()
    (listener,) = await listen("127.0.0.1:0", None)
    assert isinstance(listener, trio.SocketListener)
    port = listener.socket.getsockname()[1]
    assert reachable("127.0.0.1:0", [listener]) == f"127.0.0.1:{port}"
    for address in (":8082", "0.0.0.0:8082", "[::]:8082"):
        assert reachable(address, [listener]) == f"{host}:8082"
        assert reachable(address, [listener], "lab.example") == "lab.example:8082"
    assert reachable(":0", [listener], "2001:db8::1") == f"[2001:db8::1]:{port}"
    assert reachable("[2001:db8::2]:1", [listener], "other") == "[2001:db8::2]:1"
    with pytest.raises(
        ListenAddressError,
        match=f"cannot listen on 127.0.0.1:{port}: .*; choose another address with --listen",
    ):
        await listen(f"127.0.0.1:{port}", None)
    await listener.aclose()


def test_addresses_and_certificates_that_are_none() -> None:
    assert split_address(":1") == ("", 1)
    assert split_address("[::1]:8082") == ("::1", 8082)
    with pytest.raises(ListenAddressError, match="--listen: "):
        split_address("lab")
    chain, key = Path("chain.pem"), Path("key.pem")
    assert given_certificate(chain, key) == Certificate(chain, key, False)
    assert given_certificate(None, None) is None
    for half in ((chain, None), (None, key)):
        with pytest.raises(CertificateError, match="belong together"):
            given_certificate(*half)
