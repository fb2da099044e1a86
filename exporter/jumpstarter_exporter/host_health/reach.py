"""Whether the host's controllers and its running exporter answer. Each with a time limit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.remote import Trust, open_controller
from jumpstarter_proto.rpc import RpcError, connect_unix, open_channel
from jumpstarter_proto.tasks import collapsed

from jumpstarter_exporter.host_health.facts import ControllerFacts, ExporterFacts
from jumpstarter_exporter.serve import sockets

__all__ = ["exporter_socket", "reach_controllers", "reach_exporter"]

CONTROLLER_SECONDS = 8.0
EXPORTER_SECONDS = 5.0
MAX_CONTROLLERS = 16


async def reach_controllers(controllers: Mapping[str, Trust]) -> tuple[ControllerFacts, ...]:
    """Connect to each concurrently, up to the TLS handshake. No token is sent."""
    found: dict[str, str] = {}

    async def reach(endpoint: str, trust: Trust) -> None:
        found[endpoint] = f"it did not answer within {CONTROLLER_SECONDS:g} s"
        with trio.move_on_after(CONTROLLER_SECONDS):
            try:
                with collapsed():
                    async with open_controller(endpoint, trust, None, timeout=CONTROLLER_SECONDS - 1):
                        found[endpoint] = ""
            except JumpstarterError as error:
                found[endpoint] = str(error)

    async with trio.open_nursery() as nursery:
        for endpoint, trust in list(controllers.items())[:MAX_CONTROLLERS]:
            nursery.start_soon(reach, endpoint, trust)
    return tuple(ControllerFacts(endpoint, found[endpoint]) for endpoint in sorted(found))


def exporter_socket() -> Path | None:
    """The socket of an exporter on this host, the service's before this user's own; None if there is none."""
    places = [sockets.SYSTEM] if not os.environ.get("JUMPSTARTER_RUNTIME_DIRECTORY") else []
    with suppress(sockets.SocketError):
        places.append(sockets.default_path())
    return next((one for one in places if os.path.exists(one)), None)


async def reach_exporter(socket: Path | None) -> ExporterFacts:
    """Ask the exporter behind that socket for its boards. Nobody becomes a user of one by that.

    With a socket of systemd's alone it is not asked: that would start it.
    """
    if socket is None:
        return ExporterFacts(is_running=False)
    try:
        with trio.fail_after(EXPORTER_SECONDS), collapsed():
            async with open_channel(await connect_unix(socket)) as channel:
                listed = await HostServiceStub(channel).ListBoards(host_pb2.ListBoardsRequest())
    except trio.TooSlowError:
        return ExporterFacts(is_running=True, why=f"it did not answer within {EXPORTER_SECONDS:g} s")
    except RpcError as error:
        return ExporterFacts(is_running=False, why=str(error))
    problems = {board.name: board.problem for board in listed.boards if board.problem}
    return ExporterFacts(is_running=True, boards=len(listed.boards), problems=problems)
