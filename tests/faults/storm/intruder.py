"""Attackers: silent connections, invalid data, and an exporter that sends false reports to its controller."""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Identity, Kind, open_controller
from jumpstarter_proto.rpc import RpcError

from tests.faults.attackers import PREFACE, SETTINGS, Raw, method, tcp, tls, until_closed
from tests.faults.controllers import trust_of

SECONDS = 5.0
SILENT_CONNECTIONS = 100
NONSENSE = 20
CONTROLLER_METHODS = ("Register", "ReportStatus", "Unregister")

Port = int
Credential = lab_pb2.Credential


async def intrude(port: Port, credential: Credential, chance: random.Random) -> str:
    """Do one of them for at most some seconds; which."""
    deeds: dict[str, Callable[[], Awaitable[None]]] = {
        "silent connections": lambda: _silent(port),
        "nonsense after a handshake": lambda: _nonsense(port, chance),
        "settings without end": lambda: _settings(port),
        "an exporter that lies": lambda: _lie(port, credential, chance),
    }
    name = chance.choice(list(deeds))
    with trio.move_on_after(SECONDS), suppress(OSError, ssl.SSLError, trio.BrokenResourceError, RpcError):
        await deeds[name]()
    return name


async def _silent(port: Port) -> None:
    async def silent() -> None:
        with suppress(OSError):  # nobody may be there at the moment
            stream = await tcp(port)
            try:
                await trio.sleep(SECONDS)
            finally:
                await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for _ in range(SILENT_CONNECTIONS):
            nursery.start_soon(silent)


async def _nonsense(port: Port, chance: random.Random) -> None:
    for _ in range(NONSENSE):
        stream = await tls(port)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(PREFACE + SETTINGS + chance.randbytes(4096))
            await until_closed(stream)
        await trio.aclose_forcefully(stream)


async def _settings(port: Port) -> None:
    stream = await tls(port)
    try:
        await stream.send_all(PREFACE)
        while True:
            await stream.send_all(SETTINGS * 1000)
    finally:
        await trio.aclose_forcefully(stream)


async def _lie(port: Port, credential: Credential, chance: random.Random) -> None:
    """Messages of random bytes, in the name of an exporter that exists."""
    identity = Identity(Kind(credential.kind), credential.namespace, credential.name, credential.token)
    async with open_controller(f"127.0.0.1:{port}", trust_of(credential), identity) as channel:
        for _ in range(NONSENSE):
            path = f"/jumpstarter.v1.ControllerService/{chance.choice(CONTROLLER_METHODS)}"
            with suppress(RpcError):
                await channel.unary(
                    method(path), Raw(chance.randbytes(chance.randrange(4096))), timeout=SECONDS
                )
