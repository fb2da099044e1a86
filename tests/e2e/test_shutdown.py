"""A controller gets SIGTERM: calls end with a status, and clients and exporters reconnect to its successor."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from google.protobuf import duration_pb2
from jumpstarter_client.identity import client_config
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.client.v1.client_pb2 import CreateLeaseRequest
from jumpstarter_proto.client.v1.client_pb2 import Lease as LeaseMessage
from jumpstarter_proto.remote import Identity, Kind, open_controller
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import (
    DialRequest,
    DriverInstanceReport,
    RegisterRequest,
    ReportStatusRequest,
    StatusRequest,
)

from tests.interop import exporters
from tests.support.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def test_everybody_comes_back_to_the_next_controller(lab: Lab) -> None:
    controller = lab.start_controller()
    exporter = lab.exporter("one")
    files = [lab.client("ann"), lab.client("bob")]
    go, ready = lab.home / "go", lab.home / "ready"
    holds = f"j power on && touch {ready} && while ! test -e {go}; do sleep 0.1; done; j power off"
    environment = exporters.clean_environment(lab.home)
    environment["PATH"] = f"{exporters.scripts()}:{os.environ['PATH']}"

    def shell(file: Path, script: str) -> subprocess.Popen[str]:
        command = [exporters.scripts() / "jumpstarter", "shell", "-l", "board=rpi4", "--client", file]
        return subprocess.Popen(
            [*command, "--", "sh", "-c", script], env=environment, stderr=subprocess.PIPE, text=True
        )

    with shell(files[0], holds) as holder:
        lab.until(ready.exists)
        with shell(files[1], "j power on") as waiter:
            lab.until(lambda: "lease waits" in controller.log.read_text())
            controller.process.terminate()
            assert controller.process.wait(60) == 0
            lab.start_controller()
            lab.until(lambda: exporter.log.read_text().count("registered with") == 2)
            go.touch()
            assert holder.wait(60) == 0, holder.stderr and holder.stderr.read()
            assert waiter.wait(60) == 0, waiter.stderr and waiter.stderr.read()
    assert "Traceback" not in controller.log.read_text()


async def test_a_call_that_takes_long_is_waited_for_and_a_second_signal_is_not(lab: Lab) -> None:
    controller = lab.start_controller()
    ann = client_config.load(str(lab.client("ann")), {})
    lab.admin("exporter", "create", "one", "--label", "a=b", "--save", lab.home / "one.yaml")
    # Their configurations differ in little but who they are.
    token = next(
        line.removeprefix("token: ")
        for line in (lab.home / "one.yaml").read_text().splitlines()
        if line.startswith("token: ")
    )
    board = Identity(Kind.EXPORTER, "default", "one", token)
    with trio.fail_after(60):
        async with (
            open_controller(ann.endpoint, ann.trust, board) as theirs,
            open_controller(ann.endpoint, ann.trust, ann.identity) as ours,
            trio.open_nursery() as nursery,
        ):
            stub = ControllerServiceStub(theirs)
            report = DriverInstanceReport(uuid="0" * 8, labels={"jumpstarter.dev/client": "a.b.C"})
            await stub.Register(RegisterRequest(reports=[report]))
            await stub.ReportStatus(ReportStatusRequest(status="EXPORTER_STATUS_AVAILABLE"))
            asked = LeaseMessage(selector="a=b", duration=duration_pb2.Duration(seconds=60))
            request = CreateLeaseRequest(parent="namespaces/default", lease_id="l", lease=asked)
            await ClientServiceStub(ours).CreateLease(request)

            async def dial() -> None:
                """It waits for the exporter, which never says that the lease is ready."""
                with pytest.raises(RpcError) as caught:
                    await ControllerServiceStub(ours).Dial(DialRequest(lease_name="l"))
                assert caught.value.code is StatusCode.UNAVAILABLE

            async with stub.Status(StatusRequest()) as call:
                assert (await call.receive()).leased
                nursery.start_soon(dial)
                await trio.testing.wait_all_tasks_blocked()
                controller.process.terminate()
                with pytest.raises(RpcError, match="shutting down"):
                    await call.receive()
            # The stream has ended, the call has not, and so the controller is still there.
            assert controller.process.poll() is None
            controller.process.terminate()
    assert controller.process.wait(60) == 0
    assert "second signal" in controller.log.read_text()
