"""Calls to a controller: all pages, what is sent for a change, and what a refusal is worth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from jumpstarter_proto.client.v1 import client_grpc
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.remote import Identity, Kind, ReasonCode, Trust, refused
from jumpstarter_proto.rpc import RpcError, StatusCode, open_channel, serve_connection

from jumpstarter_client.controller.controller_client import ControllerCalls, is_not_found, translate_errors
from jumpstarter_client.identity.client_config import ClientConfig

LAB = "namespaces/lab"
CONFIG = ClientConfig("lab:8082", Identity(Kind.CLIENT, "lab", "ann", "x"), Trust(), path=Path("/ann.yaml"))


class Pages(client_grpc.ClientServiceServicer):
    """A controller with more than it tells at once."""

    def __init__(self) -> None:
        self.asked: list[pb.ListLeasesRequest] = []
        self.updates: list[pb.UpdateLeaseRequest] = []

    async def ListLeases(self, request: pb.ListLeasesRequest, call: object) -> pb.ListLeasesResponse:  # noqa: N802
        self.asked.append(request)
        number = int(request.page_token or 0)
        leases = [pb.Lease(name=f"{LAB}/leases/{number}")] if number != 1 else []  # a page may be empty
        return pb.ListLeasesResponse(leases=leases, next_page_token=str(number + 1) if number < 3 else "")

    async def ListExporters(self, request: pb.ListExportersRequest, call: object) -> pb.ListExportersResponse:  # noqa: N802
        number = int(request.page_token or 0)
        exporters = [pb.Exporter(name=f"{request.parent}/exporters/{request.filter}-{number}")]
        return pb.ListExportersResponse(
            exporters=exporters, next_page_token=str(number + 1) if number < 2 else ""
        )

    async def RotateToken(self, request: pb.RotateTokenRequest, call: object) -> pb.RotateTokenResponse:  # noqa: N802
        reply = pb.RotateTokenResponse(token=f"new in {request.parent}")
        reply.expiry.FromMilliseconds(2_000_000_000_500)
        return reply

    async def UpdateLease(self, request: pb.UpdateLeaseRequest, call: object) -> pb.Lease:  # noqa: N802
        self.updates.append(request)
        return request.lease


@asynccontextmanager
async def asked(service: Pages) -> AsyncIterator[ControllerCalls]:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, [service])
        async with open_channel(ours) as channel:
            yield ControllerCalls(channel, LAB)
        nursery.cancel_scope.cancel()


async def test_pages_are_followed_to_the_last() -> None:
    service = Pages()
    async with asked(service) as calls:
        found = [one.name async for one in calls.leases("a=b", tags="c=d", ended_too=True)]
    assert found == [f"{LAB}/leases/{number}" for number in (0, 2, 3)]
    assert [one.page_token for one in service.asked] == ["", "1", "2", "3"]
    assert {(one.parent, one.filter, one.tag_filter, one.only_active) for one in service.asked} == {
        (LAB, "a=b", "c=d", False)
    }
    async with asked(service) as calls:
        boards = [one.name async for one in calls.exporters("pi")]
    assert boards == [f"{LAB}/exporters/pi-{number}" for number in (0, 1, 2)]


async def test_a_new_token_comes_with_its_end_in_seconds() -> None:
    async with asked(Pages()) as calls:
        assert await calls.rotate_token() == (f"new in {LAB}", 2_000_000_000.5)


async def test_a_change_sends_what_changes_and_says_so() -> None:
    service = Pages()
    async with asked(service) as calls:
        await calls.transfer_lease("x", "bob")
        changes = pb.Lease()
        changes.duration.FromSeconds(60)
        await calls.update_lease("x", changes)
    given, longer = service.updates
    assert (given.lease.name, given.lease.client) == (f"{LAB}/leases/x", f"{LAB}/clients/bob")
    assert list(given.update_mask.paths) == ["client"]
    assert not given.lease.HasField("duration")
    assert (longer.lease.duration.seconds, list(longer.update_mask.paths)) == (60, ["duration"])


@pytest.mark.parametrize("more", ["", "; see which there are: jumpstarter lease list"])
@pytest.mark.parametrize(("kind", "command"), [("lease", "lease list"), ("exporter", "exporters")])
def test_what_a_controller_does_not_have_is_said_in_plain_words(kind: str, command: str, more: str) -> None:
    with pytest.raises(RpcError) as caught, translate_errors(CONFIG):
        raise RpcError(StatusCode.UNKNOWN, f'{kind}s.jumpstarter.dev "x y" not found{more}')
    assert caught.value.details == f"there is no {kind} x y; see which there are: jumpstarter {command}"
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    assert is_not_found(caught.value)


@pytest.mark.parametrize(
    ("code", "details", "exit_code"),
    [
        (StatusCode.UNKNOWN, 'client lab/x: clients.jumpstarter.dev "x" not found', ExitCode.NOT_FOUND),
        (StatusCode.UNKNOWN, "DeleteLease permission denied: it is bob's", ExitCode.DENIED),
        (StatusCode.UNKNOWN, "token is expired", ExitCode.DENIED),
        (StatusCode.UNKNOWN, "failed to authenticate token: no signature; log in again", ExitCode.DENIED),
        (StatusCode.UNKNOWN, "selector 'a b': expected a comma", ExitCode.USAGE),
        (StatusCode.UNKNOWN, "duration must be positive, got -1 s", ExitCode.USAGE),
        (StatusCode.UNAVAILABLE, "the disk is full", ExitCode.UNAVAILABLE),
    ],
)
def test_a_refusal_has_the_exit_code_that_its_words_deserve(
    code: StatusCode, details: str, exit_code: ExitCode
) -> None:
    with pytest.raises(RpcError) as caught, translate_errors(CONFIG):
        raise RpcError(code, details)
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert caught.value.details.startswith(details)
    assert ("jumpstarter login" in caught.value.details) == ("token" in details)


@pytest.mark.parametrize(
    ("reason", "is_kept"), [(ReasonCode.TOKEN_UNFIT, True), (ReasonCode.BAD_TOKEN, False)]
)
def test_the_step_of_a_rejected_token_depends_on_the_code_alone(reason: ReasonCode, is_kept: bool) -> None:
    with pytest.raises(RpcError) as caught, translate_errors(CONFIG):
        raise refused(StatusCode.UNKNOWN, "it is no good; wait a day", reason)
    assert caught.value.exit_code is ExitCode.DENIED
    assert caught.value.details.endswith("; wait a day") == is_kept
    assert ("jumpstarter login" in caught.value.details) != is_kept
