"""An exporter declines a lease from our controller, and the lease gets another board."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
import yaml
from jumpstarter_exporter.registration.controller import ControllerConnection, RegistrationCalls
from jumpstarter_exporter.registration.lease_assignment import LeaseAssignment
from jumpstarter_exporter.status import StatusReason
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport

from tests.e2e.lab import LIMIT, Lab

LOCAL_USE = StatusReason("local-use", "in local use by ana")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.opened() as lab:
        yield lab


def controller_of(lab: Lab, name: str) -> ControllerConnection:
    """A new exporter's, which runs in this process."""
    file: Path = lab.home / f"{name}.yaml"
    lab.admin("exporter", "create", name, "--label", "board=bench", "--save", file)
    said = yaml.safe_load(file.read_text())
    identity = Identity(Kind.EXPORTER, said["metadata"]["namespace"], name, said["token"])
    return ControllerConnection(said["endpoint"], Trust(ca=said["tls"]["ca"]), identity)


class Desk:
    """An exporter that is asked."""

    def __init__(self, controller: ControllerConnection) -> None:
        self.controller = controller
        self.reasons: Sequence[StatusReason] = ()
        self.offered: list[LeaseAssignment] = []
        self.waits: LeaseAssignment | None = None
        self.tenant: LeaseAssignment | None = None
        self._news = trio.Event()

    def _happened(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def introduce(self, calls: RegistrationCalls) -> None:
        await calls.register({}, [DriverInstanceReport(uuid="1")])
        await calls.report(ExporterStatus.AVAILABLE, "")

    def answer(self, tenant: LeaseAssignment) -> Sequence[StatusReason]:
        self.offered.append(tenant)
        return self.reasons

    def told(self, tenant: LeaseAssignment | None) -> None:
        self.tenant = tenant
        self._happened()

    def note(self, waits: LeaseAssignment | None) -> None:
        self.waits = waits
        self._happened()

    async def run(self) -> None:
        await self.controller.follow(
            self.introduce, self.told, on_offer=self.answer, on_waiting_lease=self.note
        )

    async def until_leased(self) -> LeaseAssignment:
        while self.tenant is None:
            await self._news.wait()
        return self.tenant

    async def until_declined(self) -> LeaseAssignment:
        while self.waits is None:
            await self._news.wait()
        return self.waits


async def test_a_board_in_local_use_declines_and_the_lease_goes_on(lab: Lab) -> None:
    ann = lab.client("ann")
    desk = Desk(controller_of(lab, "desk"))
    desk.reasons = [LOCAL_USE]
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.run)

            async def command(*words: object) -> str:
                return await trio.to_thread.run_sync(lambda: lab.ok(*words, "--client", ann))

            name = (
                await command(
                    "lease", "create", "-l", "board=bench", "--no-wait", "--duration", "1h", "-o", "name"
                )
            ).strip()
            assert await desk.until_declined() == LeaseAssignment(name, "ann")
            shown = json.loads(await command("exporters", "show", "desk", "-o", "json"))
            assert (shown["state"], shown["reason"]) == ("busy", "in local use by ana")
            assert shown["reasons"] == [{"code": "local-use", "sentence": "in local use by ana"}]
            assert (
                "in local use by ana"
                in json.loads(await command("lease", "show", name, "-o", "json"))["reason"]
            )

            other = Desk(controller_of(lab, "other"))
            nursery.start_soon(other.run)
            tenant = await other.until_leased()
            assert (tenant.lease, tenant.client) == (name, "ann")
            assert tenant.until == pytest.approx(time.time() + 3600, abs=LIMIT)
            assert [one.lease for one in other.offered] == [name]

            desk.reasons = ()
            async with desk.controller.open() as calls:
                await calls.report(ExporterStatus.AFTER_LEASE_HOOK, LOCAL_USE.sentence, [LOCAL_USE])
                await calls.report(ExporterStatus.AVAILABLE, "")
                await calls.accept(name)  # it is another's by now, and that is no fault
                await calls.decline(name, [LOCAL_USE])
            assert json.loads(await command("exporters", "show", "desk", "-o", "json"))["reasons"] == []
            second = (await command("lease", "create", "-n", "desk", "--no-wait", "-o", "name")).strip()
            assert (await desk.until_leased()).lease == second
            nursery.cancel_scope.cancel()
