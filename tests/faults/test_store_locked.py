"""A controller whose database another program has locked: a sentence, and nothing that was acknowledged is lost."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode

from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller
from tests.faults.test_store_disk import create, run_once
from tests.interop import exporters

pytestmark = pytest.mark.timeout(180)
WAY_OUT = "end the program that has it open"


@contextmanager
def locked(lab: Controller, *, to_readers: bool) -> Iterator[None]:
    """Another program has the database for itself, or only for writing."""
    with closing(sqlite3.connect(lab.data / "lab.sqlite", isolation_level=None)) as db:
        if to_readers:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


async def names(lab: Controller, who: lab_pb2.Credential) -> set[str]:
    async with lab.client(who) as stub:
        found = await stub.ListLeases(pb.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)
    return {one.name.rpartition("/")[2] for one in found.leases}


def test_what_cannot_be_written_is_refused_until_it_can(tmp_path: Path) -> None:
    async def use(lab: Controller, ann: lab_pb2.Credential) -> None:
        async with lab.client(ann) as stub:
            await create(stub, "first")
            with locked(lab, to_readers=False):
                with pytest.raises(RpcError, match=WAY_OUT) as refused:
                    await create(stub, "second")
                assert refused.value.code is StatusCode.UNAVAILABLE
                assert await names(lab, ann) == {"first"}, "what is there can be seen all the while"
            while True:  # what is tried all the time may be at it now
                try:
                    await create(stub, "third")
                except RpcError as error:
                    if WAY_OUT not in error.details:
                        raise
                else:
                    break
        assert await names(lab, ann) == {"first", "third"}

    with controller(tmp_path) as lab:
        ann = trio.run(lab.create, Kind.CLIENT, "ann")
        trio.run(lambda: lab.create(Kind.EXPORTER, "board", board="rpi4"))
        trio.run(use, lab, ann)
        lab.kill()
        lab.start()
        assert trio.run(names, lab, ann) == {"first", "third"}


def test_who_starts_and_who_backs_up_are_told_that_another_program_has_it(tmp_path: Path) -> None:
    with controller(tmp_path) as lab:
        ann = trio.run(lab.create, Kind.CLIENT, "ann")
        lab.stop()
        with locked(lab, to_readers=True):
            program = exporters.scripts() / "jumpstarter-controller"
            command = [program, "admin", "backup", tmp_path / "b", "--data", lab.data]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as backup:
                assert WAY_OUT in run_once(lab)
                _, said = backup.communicate(timeout=60)
            assert backup.returncode == 1
            assert WAY_OUT in said
            assert len(said.splitlines()) == 1
            assert not (tmp_path / "b").exists()
        lab.start()
        assert trio.run(names, lab, ann) == set()
