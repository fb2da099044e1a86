"""`kill -9` of a controller that is busy, again and again: what it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from jumpstarter_controller.lab import Client, Draft, Exporter, Key, Lease
from jumpstarter_controller.store import SqliteStore
from jumpstarter_controller.store.whole import lab_of
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub

from tests.faults.controllers import CALL_SECONDS, NAMESPACE, PARENT, Controller, controller

KILLS = 8
pytestmark = pytest.mark.timeout(300)


@dataclass
class Known:
    """What was acknowledged of one record, and what was asked for and never answered."""

    values: set[str]
    """Any of these may be what is there; the last that was acknowledged, and all that were asked for since."""

    def ask(self, value: str) -> None:
        self.values.add(value)

    def acknowledge(self, value: str) -> None:
        self.values = {value}


ABSENT = "absent"


@dataclass
class Journal:
    """What the test knows."""

    leases: dict[str, Known] = field(default_factory=dict)
    clients: dict[str, Known] = field(default_factory=dict)
    status: Known = field(default_factory=lambda: Known({"registered"}))
    tokens: dict[str, lab_pb2.Credential] = field(default_factory=dict)
    acknowledged: int = 0

    def done(self, known: Known, value: str) -> None:
        known.acknowledge(value)
        self.acknowledged += 1


class Torture:
    def __init__(self, lab: Controller) -> None:
        self.lab = lab
        self.journal = Journal()
        self.number = 0
        self.random = random.Random(4)

    def name(self) -> str:
        self.number += 1
        return f"n{self.number:05}"

    async def prepare(self) -> None:
        self.ann = await self.lab.create(Kind.CLIENT, "ann")
        self.board = await self.lab.create(Kind.EXPORTER, "board", board="rpi4")
        async with self.lab.channel(self.board) as channel:
            request = pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="x")])
            await ControllerServiceStub(channel).Register(request, timeout=CALL_SECONDS)

    async def round(self, seconds: float) -> None:
        """Everybody at work, until it is killed in the middle."""
        async with trio.open_nursery() as nursery:
            for work in (self.lease, self.lease, self.lease, self.administrate, self.report):
                nursery.start_soon(self.until_lost, work)
            await trio.sleep(seconds)
            # From a thread: the others go on until its last moment.
            await trio.to_thread.run_sync(self.lab.kill)

    async def until_lost(self, work: Callable[[], Awaitable[None]]) -> None:
        codes = set()
        try:
            await work()
        except* RpcError as errors:
            codes = {error.code for error in _leaves(errors)}
        assert codes == {StatusCode.UNAVAILABLE}

    async def lease(self) -> None:
        """Create, extend twice, release; each step acknowledged before the next."""
        async with self.lab.client(self.ann) as stub:
            while True:
                name = self.name()
                known = self.journal.leases[name] = Known({ABSENT})
                lease = client_pb2.Lease(
                    selector="board=rpi4", duration=Duration(seconds=1000), tags={"n": name}
                )
                known.ask("1000")
                request = client_pb2.CreateLeaseRequest(parent=PARENT, lease_id=name, lease=lease)
                await stub.CreateLease(request, timeout=CALL_SECONDS)
                self.journal.done(known, "1000")
                for seconds in (2000, 3000):
                    known.ask(str(seconds))
                    update = client_pb2.Lease(
                        name=f"{PARENT}/leases/{name}", duration=Duration(seconds=seconds)
                    )
                    await stub.UpdateLease(client_pb2.UpdateLeaseRequest(lease=update), timeout=CALL_SECONDS)
                    self.journal.done(known, str(seconds))
                if self.random.random() < 0.9:
                    known.ask("released")
                    gone = client_pb2.DeleteLeaseRequest(name=f"{PARENT}/leases/{name}")
                    await stub.DeleteLease(gone, timeout=CALL_SECONDS)
                    self.journal.done(known, "released")

    async def administrate(self) -> None:
        """Clients come, get new tokens and go."""
        async with self.lab.administration() as admin:
            while True:
                name = self.name()
                known = self.journal.clients[name] = Known({ABSENT})
                create = lab_pb2.CreateRequest(kind="Client", namespace=NAMESPACE, name=name)
                one = lab_pb2.ObjectRequest(kind="Client", namespace=NAMESPACE, name=name)
                known.ask("new")
                credential = await admin.Create(create, timeout=CALL_SECONDS)
                self.journal.done(known, "new")
                self.journal.tokens[name] = credential
                known.ask("disabled")
                off = lab_pb2.SetEnabledRequest(kind="Client", namespace=NAMESPACE, name=name, enabled=False)
                await admin.SetEnabled(off, timeout=CALL_SECONDS)
                self.journal.done(known, "disabled")
                if self.random.random() < 0.5:
                    known.ask(ABSENT)
                    await admin.Delete(one, timeout=CALL_SECONDS)
                    self.journal.done(known, ABSENT)

    async def report(self) -> None:
        """An exporter says how it is; it never gets a lease, so that nothing else writes its record."""
        async with self.lab.channel(self.board) as channel:
            stub = ControllerServiceStub(channel)
            while True:
                text = self.name()
                self.journal.status.ask(text)
                # BEFORE_LEASE_HOOK
                request = pb.ReportStatusRequest(status=3, message=text)  # type: ignore[arg-type]
                await stub.ReportStatus(request, timeout=CALL_SECONDS)
                self.journal.done(self.journal.status, text)

    def check(self, draft: Draft) -> None:
        """What is on the disk against what is known."""
        assert {one.name for one in draft.all(Lease)} <= set(self.journal.leases)
        for name, known in self.journal.leases.items():
            lease = draft.get(Lease, Key(NAMESPACE, name))
            if lease is not None:
                assert lease.tags == {"n": name}, "half a lease"
                assert (lease.client, lease.selector) == ("ann", "board=rpi4")
            self.hold(name, known, _state(lease))
        for name, known in self.journal.clients.items():
            client = draft.get(Client, Key(NAMESPACE, name))
            state = ABSENT if client is None else "new" if client.enabled else "disabled"
            self.hold(name, known, state)
        exporter = draft.get(Exporter, Key(NAMESPACE, "board"))
        assert exporter is not None
        assert exporter.devices == 1
        if self.journal.status.values != {"registered"}:
            self.hold("board", self.journal.status, exporter.status_message or "registered")

    @staticmethod
    def hold(name: str, known: Known, found: str) -> None:
        assert found in known.values, f"{name} is {found}, and was {known.values}"
        known.acknowledge(found)  # what is there now stays

    async def check_token(self) -> None:
        """A token that was given out is still one, unless its client is gone or disabled."""
        async with self.lab.client(self.ann) as stub:
            listed = await stub.ListLeases(client_pb2.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)
        open_leases = {one.name.rpartition("/")[2] for one in listed.leases}
        assert open_leases == {
            name for name, known in self.journal.leases.items() if not known.values & {"released", ABSENT}
        }


def _state(lease: Lease | None) -> str:
    if lease is None:
        return ABSENT
    return "released" if lease.ended is not None else f"{lease.duration:.0f}"


def _leaves(group: BaseExceptionGroup[RpcError]) -> Iterator[RpcError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def test_kill_at_any_moment() -> None:
    with tempfile.TemporaryDirectory(prefix="kill-") as home, controller(Path(home)) as lab:
        torture = Torture(lab)
        trio.run(torture.prepare)
        for number in range(KILLS):
            before = torture.journal.acknowledged
            trio.run(torture.round, torture.random.uniform(0.2, 0.7))
            assert torture.journal.acknowledged > before or number, "nothing was done"
            store = SqliteStore(lab.data / "lab.sqlite")
            torture.check(lab_of(store))
            store.close()
            lab.start()
            trio.run(torture.check_token)
        assert torture.journal.acknowledged > 50
