"""One call to the administration of a data folder, whether its controller runs or not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import trio
from jumpstarter_proto.lab.v1 import lab_grpc
from jumpstarter_proto.rpc import RpcError, StatusCode, open_channel
from jumpstarter_proto.tasks import collapsed, single
from jumpstarter_proto.terminal import print_error_line

from jumpstarter_controller.app import administrated
from jumpstarter_controller.process.certificate_expiry import expiry_warning
from jumpstarter_controller.process.data_folder import DataError, DataFolder, default_folder

__all__ = ["CALL_SECONDS", "administration", "call_admin", "run_single"]

CALL_SECONDS = 30.0
T = TypeVar("T")
_OLDER = "the controller that runs is of an older version than this command; restart it, and try again"


def call_admin(data: Path | None, ask: Callable[[lab_grpc.AdminServiceStub], Awaitable[T]]) -> T:
    """What `ask` gets. Raises what it raises, and why the folder cannot be administrated.

    RpcError: UNIMPLEMENTED, the controller that runs is of a version that does not know the call.
    """

    async def run() -> T:
        folder = data or default_folder()
        with suppress(DataError):  # which it says itself, if it is one
            if warning := expiry_warning(DataFolder(folder).addresses().certificate_ends, time.time()):
                print_error_line(f"warning: {warning}")
        async with administration(data) as (stub, _):
            return await ask(stub)

    return run_single(run)


@asynccontextmanager
async def administration(data: Path | None) -> AsyncIterator[tuple[lab_grpc.AdminServiceStub, bool]]:
    """The administration of a data folder, and whether its controller runs.

    If none runs, none can start until the block is left. Raises as `call_admin`.
    """
    with collapsed():
        async with administrated(data or default_folder()) as stream, open_channel(stream) as channel:
            try:
                yield lab_grpc.AdminServiceStub(channel), isinstance(stream, trio.SocketStream)
            except RpcError as error:
                if error.code is StatusCode.UNIMPLEMENTED:
                    raise RpcError(error.code, _OLDER) from error
                raise


def run_single(run: Callable[[], Awaitable[T]]) -> T:
    """Run it in trio. Raises what it raises, without groups."""
    try:
        return trio.run(run)
    except BaseExceptionGroup as group:  # of one: what it holds, Ctrl-C included, is what happened
        raise single(group) from None
