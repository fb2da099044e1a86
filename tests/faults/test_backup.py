"""A drill: a lab at work is backed up, dies, and is restored; boards and users come back, and revoked tokens do not."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from jumpstarter_controller.backups import read_backup, write_backup
from jumpstarter_controller.lab import Lease
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_controller.store import SqliteStore
from jumpstarter_controller.store.whole import lab_of
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import lab_grpc, lab_pb2
from jumpstarter_proto.remote import Identity, Kind, open_controller
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_unix, open_channel

from tests.faults.controllers import CALL_SECONDS, NAMESPACE, PARENT, controller, trust_of
from tests.faults.disks import fill, small_disk
from tests.interop import exporters
from tests.support.lab import LIMIT, Lab

pytestmark = pytest.mark.timeout(300)
LOST = frozenset((StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED))
ABSENT, RELEASED = "absent", "released"


def command(lab: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`jumpstarter-controller admin`, in its own process."""
    program = exporters.scripts() / "jumpstarter-controller"
    return subprocess.run(
        [program, "admin", *words, "--data", lab], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def done(lab: Path, *words: str | Path) -> str:
    """What it prints, that has to succeed."""
    ended = command(lab, *words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@dataclass
class Thing:
    """What was asked for one lease or client, in order, and up to where it was acknowledged."""

    asked: list[str] = field(default_factory=lambda: [ABSENT])
    acknowledged: int = 0

    async def do(self, state: str, call: Awaitable[object]) -> None:
        self.asked.append(state)
        await call
        self.acknowledged = len(self.asked) - 1


class Storm:
    """Leases are made, extended and released, clients made, given new tokens and deleted, until it is lost."""

    def __init__(self, lab: Lab, ann: lab_pb2.Credential) -> None:
        self.lab = lab
        self.ann = ann
        self.leases: dict[str, Thing] = {}
        self.clients: dict[str, Thing] = {}
        self.tokens: dict[str, list[str]] = {}
        """Of each client, as they were acknowledged; an empty one at its deletion."""
        self.number = 0
        self.steps = 0
        self.moved = trio.Event()

    def name(self) -> str:
        self.number += 1
        return f"n{self.number:04}"

    def step(self) -> None:
        self.steps += 1
        self.moved.set()
        self.moved = trio.Event()

    async def until(self, steps: int) -> None:
        """So many more steps were acknowledged."""
        end = self.steps + steps
        while self.steps < end:
            await self.moved.wait()

    @asynccontextmanager
    async def client(self, token: str) -> AsyncIterator[ClientServiceStub]:
        identity = Identity(Kind.CLIENT, NAMESPACE, self.ann.name, token)
        async with open_controller(self.ann.endpoint, trust_of(self.ann), identity) as channel:
            yield ClientServiceStub(channel)

    @asynccontextmanager
    async def administration(self) -> AsyncIterator[lab_grpc.AdminServiceStub]:
        async with open_channel(await connect_unix(self.lab.data / "admin.sock")) as channel:
            yield lab_grpc.AdminServiceStub(channel)

    async def lease(self) -> None:
        """Nobody ever gets a board of these: what happens to them is what was asked for."""
        async with self.client(self.ann.token) as stub:
            while True:
                name = self.name()
                thing = self.leases[name] = Thing()
                lease = client_pb2.Lease(selector="board=busy", duration=Duration(seconds=1000))
                request = client_pb2.CreateLeaseRequest(parent=PARENT, lease_id=name, lease=lease)
                await thing.do("1000", stub.CreateLease(request, timeout=CALL_SECONDS))
                self.step()
                full = f"{PARENT}/leases/{name}"
                longer = client_pb2.Lease(name=full, duration=Duration(seconds=2000))
                update = client_pb2.UpdateLeaseRequest(lease=longer)
                await thing.do("2000", stub.UpdateLease(update, timeout=CALL_SECONDS))
                self.step()
                if int(name[1:]) % 3:
                    gone = client_pb2.DeleteLeaseRequest(name=full)
                    await thing.do(RELEASED, stub.DeleteLease(gone, timeout=CALL_SECONDS))
                    self.step()

    async def administrate(self) -> None:
        async with self.administration() as admin:
            while True:
                name = self.name()
                thing = self.clients[name] = Thing()
                tokens = self.tokens[name] = []
                create = lab_pb2.CreateRequest(kind="Client", namespace=NAMESPACE, name=name)
                one = lab_pb2.ObjectRequest(kind="Client", namespace=NAMESPACE, name=name)

                async def token(call: Awaitable[lab_pb2.Credential], tokens: list[str] = tokens) -> None:
                    tokens.append((await call).token)

                await thing.do("first", token(admin.Create(create, timeout=CALL_SECONDS)))
                self.step()
                await thing.do("second", token(admin.Rotate(one, timeout=CALL_SECONDS)))
                self.step()
                if (
                    len(self.clients) % 2
                ):  # of their own: numbers of names are shared with leases, and may all be odd
                    await thing.do(ABSENT, admin.Delete(one, timeout=CALL_SECONDS))
                    self.step()

    async def until_lost(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except* RpcError as errors:
            if errors.subgroup(lambda one: isinstance(one, RpcError) and one.code not in LOST):
                raise

    async def good(self, name: str, token: str) -> bool:
        """Whether that token of that client lets anybody in."""
        identity = Identity(Kind.CLIENT, NAMESPACE, name, token)
        async with open_controller(self.ann.endpoint, trust_of(self.ann), identity) as channel:
            try:
                request = client_pb2.ListLeasesRequest(parent=PARENT)
                await ClientServiceStub(channel).ListLeases(request, timeout=CALL_SECONDS)
            except RpcError as error:
                if error.code in LOST:
                    raise
                return False
            return True


@dataclass(frozen=True)
class Acknowledged:
    """How many steps of each thing were acknowledged at one moment."""

    leases: dict[str, int]
    clients: dict[str, int]

    @classmethod
    def by(cls, storm: Storm) -> Acknowledged:
        found = ({name: one.acknowledged for name, one in of.items()} for of in (storm.leases, storm.clients))
        return cls(*found)


async def weather(storm: Storm, backup: Path) -> Acknowledged:
    """The storm, a backup in its middle, and the controller's sudden end; what was acknowledged before the backup."""
    async with trio.open_nursery() as nursery:
        for work in (storm.lease, storm.lease, storm.administrate):
            nursery.start_soon(storm.until_lost, work)
        await storm.until(60)
        while len(storm.clients) < 4:  # of those that nothing is done with any more one stays
            await storm.until(1)
        before = Acknowledged.by(storm)
        await trio.to_thread.run_sync(done, storm.lab.data, "backup", backup)
        await storm.until(60)
        await trio.to_thread.run_sync(storm.lab.kill_controller)
    return before


def leases_of(data: Path) -> dict[str, str]:
    """The state of each lease on the disk."""
    store = SqliteStore(data / "lab.sqlite")
    try:
        return {
            lease.name: RELEASED if lease.ended is not None else f"{lease.duration:.0f}"
            for lease in lab_of(store).all(Lease)
        }
    finally:
        store.close()


async def check_tokens(storm: Storm, since: dict[str, int], *, is_present_known: bool) -> tuple[int, int]:
    """How many tokens were looked at that have to be refused, and how many that have to be good."""
    refused = good = 0
    for name, thing in storm.clients.items():
        tokens = storm.tokens[name]
        known = thing.acknowledged if is_present_known else since.get(name, 0)
        if thing.asked[known] == ABSENT and known:
            revoked, valid = tokens, []
        else:
            # What was asked for and not answered may have happened, and so may all that came after the backup.
            revoked = tokens[: max(0, known - 1)]
            is_last = len(thing.asked) - 1 == known
            valid = tokens[known - 1 : known] if since.get(name) and is_last else []
        for token in revoked:
            assert not await storm.good(name, token), f"{name} is let in by a token that was revoked"
            refused += 1
        for token in valid:
            assert await storm.good(name, token), f"{name} is kept out"
            good += 1
    return refused, good


@pytest.mark.parametrize("is_present_known", [True, False], ids=["data there", "data lost"])
def test_a_lab_that_dies_in_a_storm_is_restored(*, is_present_known: bool) -> None:
    with Lab.opened() as lab:
        lab.exporter("rpi4")
        file = lab.client("ann")
        ann = trio.run(_credential, lab, "storm")
        lab.admin("exporter", "create", "busy", "--label", "board=busy", "--save", lab.home / "busy.yaml")
        go, ready = lab.home / "go", lab.home / "ready"
        script = f"j power on && touch {ready}; while ! test -e {go}; do sleep 0.05; done; j power off"
        shell = lab.start("shell", "-l", "board=rpi4", "--client", file, "--", "sh", "-c", script)
        lab.until(lambda: ready.exists() or shell.poll() is not None)
        storm = Storm(lab, ann)
        backup = lab.home / "lab.backup"
        before = trio.run(weather, storm, backup)
        if not is_present_known:
            (lab.data / "lab.sqlite").write_bytes(b"noise" * 1000)
            (lab.data / "lab.sqlite-wal").unlink()  # SQLite could make all of it anew from this
            (lab.data / "tokens.key").unlink()
        said = done(lab.data, "restore", backup)
        assert ("valid again" in said) != is_present_known, said
        found = leases_of(lab.data)
        for name, acknowledged in before.leases.items():
            if acknowledged:
                state = found.get(name)
                assert state in storm.leases[name].asked[acknowledged:], f"{name} is {state}"
        lab.start_controller()
        since = before.clients
        refused, good = trio.run(lambda: check_tokens(storm, since, is_present_known=is_present_known))
        assert refused
        assert good
        # Those who were there come back by themselves, and go on with what they did.
        go.touch()
        out, err = shell.communicate(timeout=LIMIT)
        assert shell.returncode == 0, (out, err)
        lab.until(lambda: lab.status("rpi4") == "AVAILABLE")
        lab.ok("power", "on", "-l", "board=rpi4", "--client", file)


async def _credential(lab: Lab, name: str) -> lab_pb2.Credential:
    request = lab_pb2.CreateRequest(kind="Client", namespace=NAMESPACE, name=name)
    async with open_channel(await connect_unix(lab.data / "admin.sock")) as channel:
        return await lab_grpc.AdminServiceStub(channel).Create(request, timeout=CALL_SECONDS)


def test_a_backup_to_a_full_disk_leaves_nothing_there_and_disturbs_nobody(tmp_path: Path) -> None:
    with (
        controller(tmp_path) as lab,
        small_disk(tmp_path / "disk", otherwise="backups/test_backups.py") as disk,
    ):
        filler = fill(disk)
        ended = command(lab.data, "backup", disk / "b")
        assert ended.returncode == 1
        assert "make room" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert list(disk.iterdir()) == [filler]
        trio.run(lab.create, Kind.CLIENT, "ann")
        filler.unlink()
        assert "1 client" in done(lab.data, "backup", disk / "b")


def test_a_restore_to_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", otherwise="backups/test_backups.py") as disk:
        with controller(tmp_path, disk / "data") as lab:
            trio.run(lab.create, Kind.CLIENT, "ann")
            done(lab.data, "backup", tmp_path / "b")
            trio.run(lab.create, Kind.CLIENT, "bob")
        filler = fill(disk)
        before = {file.name: file.read_bytes() for file in lab.data.iterdir() if file.is_file()}
        ended = command(lab.data, "restore", tmp_path / "b")
        assert ended.returncode == 1, ended.stdout
        assert "make room" in ended.stderr
        after = {file.name: file.read_bytes() for file in lab.data.iterdir()}
        assert {name: after[name] for name in before} == before
        assert after.keys() - before <= {"lab.sqlite-wal", "lab.sqlite-shm"}
        filler.unlink()
        done(lab.data, "restore", tmp_path / "b")
        lab.start()
        lab.stop()


def test_a_disk_that_takes_no_writes_is_backed_up_or_says_why_not(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", otherwise="backups/test_backups.py") as disk:
        with controller(tmp_path, disk / "data") as lab:
            trio.run(lab.create, Kind.CLIENT, "ann")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        write_backup(DataFolder(lab.data), tmp_path / "b")
        assert read_backup(tmp_path / "b").about.counts == {"client": 1}
        still_open = [one.resolve() for one in Path("/proc/self/fd").iterdir()]
        assert not any(one.is_relative_to(disk) for one in still_open)
        ended = command(lab.data, "restore", tmp_path / "b")
        assert ended.returncode != 0
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        refused = subprocess.run(lab.command(), capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode != 0
        assert "Traceback" not in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_restore_beside_the_controller_is_refused(tmp_path: Path) -> None:
    with controller(tmp_path) as lab:
        trio.run(lab.create, Kind.CLIENT, "ann")
        done(lab.data, "backup", tmp_path / "b")
        assert "stop it first" in command(lab.data, "restore", tmp_path / "b").stderr
        trio.run(lab.create, Kind.CLIENT, "bob")
