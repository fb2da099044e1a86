"""Somebody removes a file of the controller's: nothing that was acknowledged is lost without a word."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from jumpstarter_controller.lab import Client
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_controller.store import SqliteStore
from jumpstarter_controller.store.whole import lab_of
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError

from tests.faults.controllers import Controller, controller
from tests.faults.test_backup import command, done
from tests.faults.test_store_disk import create, listed, run_once

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lost-") as path:
        yield Path(path)


async def people(lab: Controller) -> lab_pb2.Credential:
    """A client, and a board for which its leases wait."""
    await lab.create(Kind.EXPORTER, "board", board="rpi4")
    return await lab.create(Kind.CLIENT, "ann")


@pytest.mark.kills
@pytest.mark.parametrize("suffix", ["-wal", "-shm", ""])
def test_what_was_acknowledged_is_there_whichever_file_of_the_database_is_removed(
    home: Path, suffix: str
) -> None:
    """Without the database itself only a backup has it, and nothing more is acknowledged."""

    async def work(lab: Controller, ann: lab_pb2.Credential) -> list[str]:
        acknowledged, refused = ["before-1", "before-2"], ""
        async with lab.client(ann) as stub:
            await create(stub, "before-1")
            await create(stub, "before-2")
            (lab.data / f"lab.sqlite{suffix}").unlink()
            for number in range(3):
                try:
                    await create(stub, f"after-{number}")
                    acknowledged.append(f"after-{number}")
                except RpcError as error:
                    refused = error.details
        assert f"lab.sqlite{suffix} does not exist any more" in refused
        assert "restart the controller" in refused
        assert lab.daemon is not None
        with trio.fail_after(30):  # the next look of the controller
            while "cannot be read: " not in lab.daemon.log.read_text():
                await trio.sleep(0.05)
        return acknowledged

    with controller(home) as lab:
        ann = trio.run(people, lab)
        acknowledged = trio.run(work, lab, ann)
        assert acknowledged == ["before-1", "before-2"]
        lab.kill()
        if not suffix:
            assert "lab.sqlite is missing" in run_once(lab)
            return
        lab.start()

        async def names() -> set[str]:
            async with lab.client(ann) as stub:
                return await listed(stub)

        assert trio.run(names) == {"before-1", "before-2"}


def test_where_the_database_is_missing_no_lab_is_begun_and_a_backup_brings_it_back(home: Path) -> None:
    async def lease(lab: Controller, ann: lab_pb2.Credential) -> None:
        async with lab.client(ann) as stub:
            await create(stub, "mine")

    with controller(home) as lab:
        ann = trio.run(people, lab)
        trio.run(lease, lab, ann)
        done(lab.data, "backup", home / "b")
        lab.stop()
        database = DataFolder(lab.data).database
        for left in (database.unlink, database.touch):
            left()
            said = run_once(lab)
            assert "but a lab was there; restore a backup, or move the folder away to begin a new lab" in said
            asked = command(lab.data, "client", "list")
            assert "but a lab was there" in asked.stderr
            assert asked.returncode
        done(lab.data, "restore", home / "b")
        lab.start()

        async def names() -> set[str]:
            async with lab.client(ann) as stub:
                return await listed(stub)

        assert trio.run(names) == {"mine"}


def test_a_backup_may_have_a_name_of_any_bytes_and_another_file_is_said_to_be_none(home: Path) -> None:
    with controller(home) as lab:
        trio.run(people, lab)
        name = home / os.fsdecode(b"b\xff")
        assert "1 client" in done(lab.data, "backup", name)
        lab.stop()
        assert "1 client" in done(lab.data, "restore", name)
        other = home / "passwd"
        other.write_text("root:x:0:0:root:/root:/bin/bash\n" * 100)
        other.chmod(0o644)
        refused = command(lab.data, "restore", other)
        assert refused.returncode
        assert "is not a backup" in refused.stderr
        assert "chmod" not in refused.stderr
        assert refused.stderr.count("\n") == 1, refused.stderr
        name.chmod(0o644)
        restored = command(lab.data, "restore", name)
        assert restored.returncode == 0, restored.stderr
        assert "others can read" in restored.stderr


@pytest.mark.kills
@pytest.mark.parametrize(
    "name", ["lock", "lab.sqlite", "lab.sqlite-wal", "tls.key", "addresses.json", "tokens.key"]
)
def test_a_first_start_that_was_killed_is_made_again(home: Path, name: str) -> None:
    lab = Controller(home / "data", home / "log")
    lab.log.mkdir()
    with subprocess.Popen(
        [str(part) for part in lab.command()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        until = time.monotonic() + 60
        while not (lab.data / name).exists():
            assert time.monotonic() < until
        first.kill()
    try:
        lab.start()
        trio.run(lab.create, Kind.CLIENT, "ann")
    finally:
        lab.stop()
    store = SqliteStore(lab.data / "lab.sqlite", create=False)
    try:
        assert lab_of(store).count(Client) == 1
    finally:
        store.close()
