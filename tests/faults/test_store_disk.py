"""A controller whose disk is full, or whose data is not what it was: a sentence, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from jumpstarter_controller.lab import Lease
from jumpstarter_controller.store import SqliteStore, StoreError
from jumpstarter_controller.store.whole import lab_of
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode

from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller
from tests.faults.disks import card, fill, small_disk, turn_read_only

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="disk-") as path:
        yield Path(path)


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with small_disk(home / "disk", otherwise="store/test_sqlite.py has SQLite's own limit") as path:
        yield path


async def create(stub: ClientServiceStub, name: str) -> str:
    lease = client_pb2.Lease(selector="board=rpi4", duration=Duration(seconds=1000), tags={"t": "x" * 60})
    request = client_pb2.CreateLeaseRequest(parent=PARENT, lease_id=name, lease=lease)
    return (await stub.CreateLease(request, timeout=CALL_SECONDS)).name


async def until_refused(stub: ClientServiceStub, kept: list[str]) -> RpcError:
    """Leases until there is no room for another."""
    for number in range(200):
        try:
            await create(stub, f"n{len(kept)}-{number}")
        except RpcError as error:
            return error
        kept.append(f"n{len(kept)}-{number}")
    raise AssertionError("the disk never became full")


async def listed(stub: ClientServiceStub) -> set[str]:
    found = await stub.ListLeases(client_pb2.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)
    return {one.name.rpartition("/")[2] for one in found.leases}


def test_a_full_disk(home: Path, disk: Path) -> None:
    kept = ["first"]

    async def fill_up(lab: Controller, ann: lab_pb2.Credential) -> None:
        async with lab.client(ann) as stub:
            await create(stub, "first")
            filler = fill(disk)
            for _ in range(3):
                error = await until_refused(stub, kept)
                assert error.code is StatusCode.RESOURCE_EXHAUSTED
                assert "make room" in error.details
                assert await listed(stub) == set(kept), "a lease was lost, or half made"
            async with lab.administration() as admin:
                with pytest.raises(RpcError, match="make room") as refused:
                    await admin.Create(
                        lab_pb2.CreateRequest(kind="Client", namespace="default", name="bob"),
                        timeout=CALL_SECONDS,
                    )
            assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
            filler.unlink()
            await create(stub, "after")
            kept.append("after")
            assert await listed(stub) == set(kept)
            fill(disk)
            await until_refused(stub, kept)

    async def look(lab: Controller, ann: lab_pb2.Credential) -> None:
        async with lab.client(ann) as stub:
            assert await listed(stub) == set(kept)
            (disk / "filler").unlink()
            await create(stub, "last")

    with controller(home, disk / "data") as lab:
        ann = trio.run(lab.create, Kind.CLIENT, "ann")
        trio.run(partial(lab.create, Kind.EXPORTER, "board", board="rpi4"))
        trio.run(fill_up, lab, ann)
        lab.kill()
        # It starts on the full disk, or says why not.
        try:
            lab.start()
        except RuntimeError as error:
            sentence = str(error).splitlines()[-1]
            assert "make room" in sentence or "choose another folder" in sentence, sentence
            (disk / "filler").unlink()
            (disk / "filler").touch()
            lab.start()
        trio.run(look, lab, ann)


def test_a_card_that_turns_read_only(home: Path) -> None:
    """Who asks is told, and who only looks goes on. What was acknowledged is there on the repaired card."""
    kept = ["first"]

    async def go_on(lab: Controller, ann: lab_pb2.Credential, card: Path) -> None:
        async with lab.client(ann) as stub:
            await create(stub, "first")
            turn_read_only(card)
            for _ in range(2):
                with pytest.raises(RpcError, match="nothing was changed: look after its disk") as refused:
                    await create(stub, "second")
                assert refused.value.code is StatusCode.UNAVAILABLE
                assert await listed(stub) == set(kept)

    async def look(lab: Controller, ann: lab_pb2.Credential) -> None:
        async with lab.client(ann) as stub:
            assert await listed(stub) == set(kept)
            await create(stub, "second")

    mounted = partial(
        card, home / "card", otherwise="store/test_sqlite.py has a database that cannot be written"
    )
    with ExitStack() as slot:
        path = slot.enter_context(mounted())
        lab = slot.enter_context(controller(home, path / "data"))
        ann = trio.run(lab.create, Kind.CLIENT, "ann")
        trio.run(partial(lab.create, Kind.EXPORTER, "board", board="rpi4"))
        trio.run(go_on, lab, ann, path)
        lab.kill()
        sentence = run_once(lab)
        assert str(path) in sentence
        assert "Read-only file system" in sentence
    subprocess.run(["e2fsck", "-fy", home / "card.img"], capture_output=True, check=False)
    with mounted():
        lab.start()
        trio.run(look, lab, ann)
        lab.kill()


def run_once(lab: Controller) -> str:
    """What it says when it cannot start; it must."""
    done = subprocess.run(lab.command(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0, done.stdout
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def used(home: Path) -> Controller:
    """The folder of a controller that has run and was killed: much of its data is in SQLite's log."""

    async def work(lab: Controller, ann: lab_pb2.Credential) -> None:
        async with lab.client(ann) as stub:
            for number in range(100):
                await create(stub, f"n{number}")

    with controller(home) as lab:
        trio.run(work, lab, trio.run(lab.create, Kind.CLIENT, "ann"))
        lab.kill()
    return lab


def test_two_controllers_on_one_folder(home: Path) -> None:
    with controller(home) as lab:
        other = Controller(lab.data, lab.log)
        assert "another controller uses" in run_once(other)
        trio.run(lab.create, Kind.CLIENT, "ann")


def test_two_controllers_with_folders_of_their_own_on_one_database(home: Path) -> None:
    with controller(home) as lab:
        for number, target in enumerate((lab.data / "lab.sqlite", home / "linked-0" / "lab.sqlite")):
            folder = home / f"linked-{number}"
            shutil.copytree(lab.data, folder, ignore=shutil.ignore_patterns("*.sqlite*", "*.sock"))
            (folder / "lab.sqlite").symlink_to(target)
            assert "another controller uses" in run_once(Controller(folder, lab.log))
        trio.run(lab.create, Kind.CLIENT, "ann")


def test_a_database_of_a_newer_version(used: Controller) -> None:
    with closing(sqlite3.connect(used.data / "lab.sqlite")) as db:
        db.execute("PRAGMA user_version=99")
    assert "newer version" in run_once(used)


def loaded(lab: Controller) -> set[str] | str:
    """The names of all leases, or why the data is refused."""
    try:
        store = SqliteStore(lab.data / "lab.sqlite")
    except StoreError as error:
        return str(error)
    try:
        return {lease.name for lease in lab_of(store).all(Lease)}
    except StoreError as error:
        return str(error)
    finally:
        store.close()


@pytest.mark.parametrize("part", ["lab.sqlite", "lab.sqlite-wal"])
def test_damage_is_refused_or_leaves_whole_records(used: Controller, part: str) -> None:
    path = used.data / part
    size = path.stat().st_size
    assert size
    whole = path.read_bytes()
    middle = bytes(byte ^ 0x5A for byte in whole[size // 2 : size // 2 + 4096])
    damages = {
        "empty": b"",
        "cut": whole[: size // 2 + 100],
        "overwritten": whole[: size // 2] + middle + whole[size // 2 + 4096 :],
        "noise": os.urandom(size),
    }
    others = {one: (used.data / one).read_bytes() for one in ("lab.sqlite", "lab.sqlite-wal")}
    for what, damaged in damages.items():
        for name, content in others.items():
            (used.data / name).write_bytes(content)
        (used.data / "lab.sqlite-shm").unlink(missing_ok=True)
        path.write_bytes(damaged)
        # A log that was cut is one that was never written to its end: what is before it counts.
        names = loaded(used)
        if isinstance(names, str):
            assert "backup" in names, what
            assert "backup" in run_once(used), what
            continue
        # Of the database itself everything may still be in the log, and nothing less will do.
        assert part.endswith("-wal") or len(names) == 100, f"{what} went unnoticed"
        assert names == {f"n{number}" for number in range(len(names))}, f"{what}: a hole"


def test_a_folder_that_cannot_be_written(home: Path) -> None:
    if os.geteuid() == 0:
        blocked = Path("/proc/1/data")
    else:
        blocked = home / "closed" / "data"
        blocked.parent.mkdir(mode=0o500)
    sentence = run_once(Controller(blocked, home / "log"))
    assert "--data" in sentence
