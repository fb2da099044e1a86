"""The leases that a client holds already: by a short form of the name, as the only one, or because they fit a request.

`jumpstarter lease create` records its leases in a file of the user, and commands with `-l` use those. A lease of
another command, of another machine or of Jumpstarter's own client is never used unasked: two jobs of a CI system may
be the same client, and neither expects the other on its board.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.identifiers import short_form
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.texts import shown

from jumpstarter_client.controller.controller_client import ControllerClient, is_not_found, short_name
from jumpstarter_client.controller.lease_view import LeasePhase, lease_progress, remaining
from jumpstarter_client.lease.lease_use import is_used_here
from jumpstarter_client.times import format_duration

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.controller.controller_client import ControllerCalls
    from jumpstarter_client.identity.client_config import ClientConfig
    from jumpstarter_client.lease.request import LeaseRequest
    from jumpstarter_client.status_line import MessageHandler

__all__ = [
    "LeaseInUseError",
    "NoLeaseError",
    "SeveralLeasesError",
    "find_lease",
    "has_ended",
    "has_recorded",
    "only_lease",
    "record_created",
    "releasable_lease",
    "with_own_lease",
]

MIN_PART_LENGTH = 4
"""A shorter part of a name is a typing error rather than a name."""
MAX_RECORDED = 100
MAX_LINE_LENGTH = 600
MAX_RECORD_BYTES = 2 * MAX_RECORDED * MAX_LINE_LENGTH

_log = logging.getLogger(__name__)


class NoLeaseError(JumpstarterError):
    """No lease was named, and the client has none."""

    exit_code = ExitCode.USAGE


class LeaseInUseError(JumpstarterError):
    """A running command may be using the lease."""

    exit_code = ExitCode.USAGE


class SeveralLeasesError(JumpstarterError):
    """Several leases of the client fit; the message lists them."""

    exit_code = ExitCode.USAGE


async def find_lease(calls: ControllerCalls, own_name: str, name: str) -> pb.Lease:
    """Return the lease of that name, or the only active one of this client whose generated name begins or ends with it.

    A name that somebody chose is not shortened: `job-1` must not mean `job-10` when it has ended.

    Raises:
        RpcError: there is no such lease.
        SeveralLeasesError: several leases of the client fit.
    """
    try:
        return await calls.get_lease(name)
    except RpcError as error:
        if not is_not_found(error) or len(name) < MIN_PART_LENGTH or short_form(name) != name:
            raise
        found = [
            one
            async for one in _own(calls, own_name)
            if short_form(own := short_name(one.name)) != own and (own.startswith(name) or own.endswith(name))
        ]
        if not found:
            raise
    if len(found) > 1:
        raise SeveralLeasesError(f"several of your leases are named like {name!r}: {_list(found)}")
    return found[0]


async def only_lease(calls: ControllerCalls, controller: ControllerClient) -> pb.Lease:
    """Return the only active lease of the client.

    Raises:
        NoLeaseError: it has none.
        SeveralLeasesError: it has several.
    """
    found = [one async for one in _own(calls, controller.own_name)]
    if not found:
        raise NoLeaseError(
            f"{controller.config.identity.name} has no lease; lease a board with -l SELECTOR or --exporter-name NAME "
            "(see: jumpstarter exporters)"
        )
    if len(found) > 1:
        raise SeveralLeasesError(f"you have several leases; name one of them: {_list(found)}")
    return found[0]


async def _own(calls: ControllerCalls, own_name: str) -> AsyncIterator[pb.Lease]:
    """Yield the active leases of this client."""
    async for one in calls.leases():
        if one.client == own_name:
            yield one


def _list(leases: Iterable[pb.Lease]) -> str:
    return ", ".join(
        f"{shown(short_form(short_name(one.name)))} ({shown(short_name(one.exporter)) or 'waiting'})"
        for one in leases
    )


async def _find_fitting(calls: ControllerCalls, own_name: str, request: LeaseRequest) -> list[pb.Lease]:
    """Return the ready leases of this client whose board is what the request asks for."""
    ready = [one async for one in _own(calls, own_name) if lease_progress(one).phase is LeasePhase.READY]
    if request.exporter:
        ready = [one for one in ready if short_name(one.exporter) == request.exporter]
    if not ready or not request.selector:
        return ready
    matching = {short_name(one.name) async for one in calls.exporters(request.selector)}
    return [one for one in ready if short_name(one.exporter) in matching]


async def with_own_lease(
    config: ClientConfig, request: LeaseRequest, on_message: MessageHandler
) -> LeaseRequest:
    """Return a request for the recorded lease that fits, and tell the user; without one, the request as it is.

    Every lease fits a request that asks for no board.

    Raises:
        SeveralLeasesError: several recorded leases fit.
        RpcError: the controller is not reachable.
    """
    if request.lease or not request.may_reuse or not (recorded := _recorded(config, os.environ)):
        return request
    controller = ControllerClient(config)
    async with controller.open() as calls:
        fitting = await _find_fitting(calls, controller.own_name, request)
    found = [one for one in fitting if short_name(one.name) in recorded]
    if not found:
        return request
    if len(found) > 1:
        another = ", or lease another board with --new" if request.is_new else ""
        raise SeveralLeasesError(
            f"several of your leases fit; choose one with --lease{another}: {_list(found)}"
        )
    name, left = short_name(found[0].name), remaining(found[0], time.time())
    until = f", which ends in {format_duration(left)}" if left is not None else ""
    on_message(
        f"using your lease {shown(short_form(name))} of {shown(short_name(found[0].exporter))}{until}; "
        f"to lease another board: {'--new' if request.is_new else '-l SELECTOR'}"
    )
    return replace(request, lease=name)


async def has_ended(config: ClientConfig, name: str) -> bool:
    """Whether the controller says that it is no longer an active lease of this client; False if it says nothing."""
    controller = ControllerClient(config)
    try:
        async with controller.open() as calls:
            lease = await calls.get_lease(name)
    except RpcError as error:
        return is_not_found(error)
    return lease.client != controller.own_name or lease_progress(lease).phase is LeasePhase.FAILED


async def releasable_lease(calls: ControllerCalls, controller: ControllerClient) -> pb.Lease:
    """Return the only active lease of the client, if no running command may be using it.

    Raises:
        NoLeaseError: it has none.
        SeveralLeasesError: it has several.
        LeaseInUseError: a command uses it, or may use it.
    """
    one = await only_lease(calls, controller)
    name = short_name(one.name)
    board = f"your only lease {shown(short_form(name))} ({shown(short_name(one.exporter)) or 'waiting'})"
    release = f"to release it, name it: jumpstarter lease release {shown(short_form(name))}"
    if is_used_here(name):
        raise LeaseInUseError(f"a command on this machine uses {board}; {release}")
    if name not in _recorded(controller.config, os.environ):
        raise LeaseInUseError(
            f"{board} was not created by `jumpstarter lease create` on this machine, so a command such as "
            f"`jumpstarter shell` may be using it; {release}"
        )
    return one


def record_created(config: ClientConfig, name: str, environment: Mapping[str, str] = os.environ) -> None:
    """Record a lease that was created for later commands. Without a place for the record, it is not used unasked."""
    path = _record_path(environment)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            lines = [*_read_lines(path), f"{_owner(config)} {name}"][-MAX_RECORDED:]
            write_private(path, "".join(f"{line}\n" for line in lines).encode())
    except (OSError, PrivateFileError) as error:
        _log.info("lease %s is not recorded: %s", name, error)


def has_recorded(config: ClientConfig) -> bool:
    """Whether `lease create` has made leases here for this client. They may have ended."""
    return bool(_recorded(config, os.environ))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other commands from recording a lease during the block. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _recorded(config: ClientConfig, environment: Mapping[str, str]) -> set[str]:
    owner = _owner(config)
    split = (line.rpartition(" ") for line in _read_lines(_record_path(environment)))
    return {name for found, _, name in split if found == owner}


def _owner(config: ClientConfig) -> str:
    return f"{config.endpoint} {config.identity.namespace}/{config.identity.name}"


def _record_path(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "jumpstarter" / "leases"


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_RECORD_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if len(line) <= MAX_LINE_LENGTH]
