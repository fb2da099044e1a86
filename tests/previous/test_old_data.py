"""The data of a lab of v0.1.0 goes on with the controller of this tree; `old_lab.py` made it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from jumpstarter_controller.store.sqlite import SCHEMA
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller

from tests.faults.controllers import CALL_SECONDS, PARENT, Controller
from tests.interop import exporters
from tests.support.administration import administer
from tests.support.peers import Environment

DATA = Path(__file__).parent / "v0.1.0"
TOKEN = (DATA / "ann.token").read_text().strip()
LATER = Duration(seconds=9 * 365 * 86400)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Controller]:
    """The controller of this tree on a copy of that data, at another port, and with another certificate."""
    data = tmp_path / "data"
    data.mkdir(0o700)
    for name in ("lab.sqlite", "tokens.key"):
        shutil.copyfile(DATA / name, data / name)
        (data / name).chmod(0o600)
    [endpoint] = jwt.decode(TOKEN, options={"verify_signature": False})["aud"]
    found = Controller(data, tmp_path / "log", ["--endpoint", endpoint])
    yield found
    found.stop()


def start(lab: Controller) -> None:
    """As `Controller.start`, of one that says another address than it listens on."""
    lab.log.mkdir(exist_ok=True)
    lab.daemon = exporters.Daemon(lab.command(), lab.log)
    assert lab.daemon.first_line().startswith("Listening on ")
    lab.daemon.until_it_listens(lab.port)


@asynccontextmanager
async def calls(lab: Controller) -> AsyncIterator[ClientServiceStub]:
    identity = Identity(Kind.CLIENT, "default", "ann", TOKEN)
    async with open_controller(lab.endpoint, Trust(insecure=True), identity) as channel:
        yield ClientServiceStub(channel)


async def leases(stub: ClientServiceStub) -> list[pb.Lease]:
    """All, the oldest first."""
    request = pb.ListLeasesRequest(parent=PARENT, only_active=False)
    return list((await stub.ListLeases(request, timeout=CALL_SECONDS)).leases)


def schema(lab: Controller) -> int:
    with closing(sqlite3.connect(lab.data / "lab.sqlite")) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


async def use(lab: Controller) -> None:
    """What was there is there, and can be used with the token of then."""
    async with calls(lab) as stub:
        ended, runs, waits = await leases(stub)
        assert ended.HasField("effective_end_time")
        assert runs.exporter == f"{PARENT}/exporters/rpi4"
        assert not runs.HasField("effective_end_time")
        assert not waits.exporter
        assert waits.conditions[-1].reason == "NotAvailable"
        longer = pb.Lease(name=runs.name, duration=LATER)
        updated = await stub.UpdateLease(pb.UpdateLeaseRequest(lease=longer), timeout=CALL_SECONDS)
        assert updated.duration == LATER
        new = pb.Lease(selector="board=rpi4", duration=Duration(seconds=600))
        request = pb.CreateLeaseRequest(parent=PARENT, lease_id="new", lease=new)
        assert not (await stub.CreateLease(request, timeout=CALL_SECONDS)).exporter
        await stub.DeleteLease(pb.DeleteLeaseRequest(name=runs.name), timeout=CALL_SECONDS)


async def look(lab: Controller) -> None:
    """What was done is there after one more start."""
    async with calls(lab) as stub:
        found = await leases(stub)
    assert [one.HasField("effective_end_time") for one in found] == [True, True, False, False]
    assert found[1].duration == LATER
    assert found[3].name.endswith("/new")


async def administrate(lab: Controller) -> None:
    async with lab.administration() as admin:
        request = lab_pb2.ListPoliciesRequest()
        [policy] = (await admin.ListPolicies(request, timeout=CALL_SECONDS)).policies
        assert (policy.name, policy.exporters, policy.rules[0].priority) == ("boards", "board=rpi4", 5)
        clients = await admin.List(lab_pb2.ListRequest(kind="Client"), timeout=CALL_SECONDS)
        found: dict[str, Any] = {one.name: one for one in clients.objects}
        assert dict(found["ann"].labels) == {"team": "kernel"}
        assert not found["bob"].enabled
        [rpi4] = (await admin.List(lab_pb2.ListRequest(kind="Exporter"), timeout=CALL_SECONDS)).objects
        assert (rpi4.name, dict(rpi4.labels)) == ("rpi4", {"board": "rpi4"})
        one = lab_pb2.ObjectRequest(kind="Client", namespace="default", name="bob")
        assert (await admin.Rotate(one, timeout=CALL_SECONDS)).token


def test_it_is_brought_up_and_used_and_what_was_done_stays(lab: Controller) -> None:
    assert schema(lab) == 1
    start(lab)
    trio.run(use, lab)
    trio.run(administrate, lab)
    lab.kill()
    assert schema(lab) == SCHEMA
    start(lab)
    trio.run(look, lab)


def test_it_is_backed_up_and_restored_by_this_tree(lab: Controller, tmp_path: Path) -> None:
    start(lab)
    backup = tmp_path / "lab.backup"
    assert administer(lab.data, "backup", str(backup)).returncode == 0
    trio.run(use, lab)
    lab.kill()
    done = administer(lab.data, "restore", str(backup))
    assert done.returncode == 0, done.stderr
    assert "pairing codes are not restored; make new ones for client default/late" in done.stdout
    start(lab)
    trio.run(look, lab)


def test_the_commands_of_this_tree_work_while_the_controller_of_then_still_runs_or_say_why_not(
    lab: Controller, previous: Environment, tmp_path: Path
) -> None:
    """As between the installation of a package and the restart of the service."""
    lab.log.mkdir()
    program = previous.bin / "jumpstarter-controller"
    lab.daemon = exporters.Daemon([program, *lab.command()[1:]], lab.log)
    assert lab.daemon.first_line().startswith("Listening on ")
    before = schema(lab)
    assert (
        administer(lab.data, "client", "create", "eve", "--save", str(tmp_path / "eve.yaml")).returncode == 0
    )
    done = administer(lab.data, "backup", str(tmp_path / "lab.backup"))
    assert done.returncode == 0, done.stderr
    assert "5 clients" in done.stdout
    assert schema(lab) == before, "it is the older one's still"
    command = [exporters.scripts() / "jumpstarter-controller", "drain", "--data", lab.data]
    drained = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "DrainLab" not in Path(previous.site_packages, "jumpstarter_proto/lab/v1/lab_grpc.py").read_text():
        assert drained.returncode != 0
        assert "older version than this command; restart it" in drained.stderr
    lab.kill()
    restored = administer(lab.data, "restore", str(tmp_path / "lab.backup"))
    assert restored.returncode == 0, restored.stderr
    assert schema(lab) == SCHEMA


def test_the_version_before_refuses_it_from_then_on_and_says_why(
    lab: Controller, previous: Environment
) -> None:
    ask = "from jumpstarter_controller.store.sqlite import SCHEMA; print(SCHEMA)"
    knows = int(subprocess.run([previous.python, "-c", ask], capture_output=True, check=True).stdout)
    if knows >= SCHEMA:
        pytest.skip("the version before has the schema of this tree")
    start(lab)
    lab.stop()
    program = previous.bin / "jumpstarter-controller"
    command = [program, "run", "--data", lab.data, "--listen", lab.endpoint]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "written by a newer version" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
