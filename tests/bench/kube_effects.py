"""The row of what kubectl changes: seconds until a client of ours sees the effect of it."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import trio
import yaml
from google.protobuf.duration_pb2 import Duration
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.rpc import RpcError, StatusCode

from tests.bench.kube import KubeLab, api_server
from tests.bench.leasing import LIMIT
from tests.bench.result import Result
from tests.bench.upstream import Bench
from tests.kube.test_lease import LEASE, POLICY

MOST_SECONDS = 2.0
CALL_SECONDS = 30.0
LOOK_SECONDS = 0.01

Look = Callable[[], Awaitable[bool]]


def effects(bench: Bench, repeats: int) -> Sequence[Result]:
    """The worst of what an administrator does, from the end of kubectl's process."""
    took: dict[str, list[float]] = {}
    with api_server(bench) as cluster, KubeLab.opened(cluster=cluster) as lab:
        lab.exporter("one")
        for number in range(max(3, repeats // 3)):
            lab.client(f"ann{number}")
            for name, seconds in trio.run(_each, lab, f"ann{number}"):
                took.setdefault(name, []).append(seconds)
    worst = {name: round(max(found), 3) for name, found in took.items()}
    what = "Kubernetes: until what kubectl does has its effect, worst"
    row = Result("kube-effects", LIMIT, what, "s", MOST_SECONDS, max(worst.values()), 1.0, True, 0)
    note = ", ".join(f"{name} {seconds:.2f}" for name, seconds in worst.items())
    return [replace(row, repeats=len(next(iter(took.values()))), note=note, detail=worst)]


async def _each(lab: KubeLab, client: str) -> list[tuple[str, float]]:
    config = yaml.safe_load((lab.home / f"{client}.yaml").read_text())
    who = Identity(Kind.CLIENT, lab.namespace, client, config["token"])
    async with open_controller(config["endpoint"], Trust(ca=config["tls"]["ca"]), who) as channel:
        return await _Administrator(lab, client, ClientServiceStub(channel)).does_each()


class _Administrator:
    """What kubectl does to the objects of one client and one board."""

    def __init__(self, lab: KubeLab, client: str, calls: ClientServiceStub) -> None:
        self._lab, self._client, self._calls = lab, client, calls
        self._lease = f"of-{client}"
        self._took: list[tuple[str, float]] = []

    async def does_each(self) -> list[tuple[str, float]]:
        """Return the name of each change, and the seconds until its effect. The client does not exist afterwards."""
        kubectl = partial(self._changes, patched=f"jl/{self._lease}")
        lease = LEASE.replace("ann", self._client).replace("nightly", self._lease)
        await self._changes("creates a lease", self._is_ready, "create", "-f", "-", text=lease)
        await kubectl("extends it", self._is_extended, spec={"duration": "1h"})
        await self._changes("applies a policy", self._is_refused, "apply", "-f", "-", text=POLICY)
        await self._changes("deletes it", self._is_admitted, "delete", "jp", "kernel")
        await kubectl("releases the lease", self._has_ended, spec={"release": True})
        board = partial(self._changes, patched="je/one")
        await board("disables a board", partial(self._is_enabled, value=False), spec={"enabled": False})
        await board("enables it", partial(self._is_enabled, value=True), spec={"enabled": True})
        label = f"rack={self._client}"
        await self._changes("labels it", self._has_label, "label", "je", "one", label, "--overwrite")
        await self._changes("deletes a client", self._is_nobody, "delete", "jc", self._client)
        return self._took

    async def _changes(
        self,
        name: str,
        look: Look,
        *words: str,
        patched: str = "",
        text: str | None = None,
        spec: object = None,
    ) -> None:
        if patched:
            words = ("patch", *patched.split("/"), "--type=merge", "-p", json.dumps({"spec": spec}))
        await trio.to_thread.run_sync(partial(self._lab.kubectl, *words, input=text))
        begun = time.perf_counter()
        with trio.fail_after(CALL_SECONDS):
            while not await look():
                await trio.sleep(LOOK_SECONDS)
        self._took.append((name, time.perf_counter() - begun))

    async def _found(self) -> pb.Lease:
        name = f"namespaces/{self._lab.namespace}/leases/{self._lease}"
        return await self._calls.GetLease(pb.GetLeaseRequest(name=name), timeout=CALL_SECONDS)

    async def _is_ready(self) -> bool:
        try:
            return (await self._found()).HasField("effective_begin_time")
        except RpcError as error:
            if error.code is StatusCode.NOT_FOUND:
                return False
            raise

    async def _is_extended(self) -> bool:
        return (await self._found()).duration.seconds == 3600

    async def _has_ended(self) -> bool:
        return (await self._found()).HasField("effective_end_time")

    async def _board(self) -> pb.Exporter:
        name = f"namespaces/{self._lab.namespace}/exporters/one"
        return await self._calls.GetExporter(pb.GetExporterRequest(name=name), timeout=CALL_SECONDS)

    async def _is_enabled(self, *, value: bool) -> bool:
        return (await self._board()).enabled is value

    async def _has_label(self) -> bool:
        return (await self._board()).labels.get("rack") == self._client

    async def _is_refused(self) -> bool:
        """Whether another lease of the board, which is in use, would never be given."""
        lease = pb.Lease(selector="board=rpi4", duration=Duration(seconds=60))
        request = pb.CreateLeaseRequest(parent=f"namespaces/{self._lab.namespace}", lease=lease)
        made = await self._calls.CreateLease(request, timeout=CALL_SECONDS)
        while not (said := {one.type: one.reason for one in made.conditions if one.status == "True"}):
            await trio.sleep(LOOK_SECONDS)
            made = await self._calls.GetLease(pb.GetLeaseRequest(name=made.name), timeout=CALL_SECONDS)
        await self._calls.DeleteLease(pb.DeleteLeaseRequest(name=made.name), timeout=CALL_SECONDS)
        # No board is given from that reason on; whether a lease is refused for good is decided two seconds later.
        return "Unsatisfiable" in said or said["Pending"] == "PoliciesChanged"

    async def _is_admitted(self) -> bool:
        return not await self._is_refused()

    async def _is_nobody(self) -> bool:
        try:
            await self._found()
        except RpcError as error:
            return "it was deleted" in error.details
        return False
