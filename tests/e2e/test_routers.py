"""Routers as processes of their own: one that is killed takes its streams along, and nothing else."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from google.protobuf import empty_pb2
from jumpstarter_client.identity import client_config
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.lease import acquire_lease
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_proto.remote import fetch_certificate, open_controller, open_router_stream
from jumpstarter_proto.rpc import Channel, ClientCall, RpcError, StatusCode, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub, ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import DialRequest, DialResponse

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.lab import Lab

GetReport = empty_pb2.Empty()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def start_router(lab: Lab, endpoint: str) -> Daemon:
    file = lab.home / f"router-{endpoint.rpartition(':')[2]}.pem"
    said = lab.admin("router", "create", endpoint, "--save", file)
    assert endpoint in said
    assert file.stat().st_mode & 0o777 == 0o600
    daemon = lab.daemon(exporters.scripts() / "jumpstarter-router", "--key", file, "--listen", endpoint)
    assert daemon.first_line() == f"Router on {endpoint}"
    return daemon


def test_a_router_is_started_with_the_command_that_was_printed_with_its_file(lab: Lab) -> None:
    lab.start_controller()
    port = exporters.free_port()
    said = lab.admin("router", "create", f"127.0.0.1:{port}", "--save", lab.home / "far.pem")
    assert f"For the controller: jumpstarter-controller run --router 127.0.0.1:{port}\n" in said
    (words,) = re.findall(r"^Where the router runs: jumpstarter-router (.*)$", said, re.MULTILINE)
    command = [
        exporters.scripts() / "jumpstarter-router",
        *words.replace("far.pem", str(lab.home / "far.pem")).split(),
    ]
    assert lab.daemon(*command).first_line() == f"Router on 127.0.0.1:{port}"
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 2
    assert again.stderr == (
        f"jumpstarter-router: cannot listen on :{port}: Address already in use; choose another address with --listen\n"
    )
    default = lab.admin("router", "create", "127.0.0.1:8083", "--save", lab.home / "usual.pem")
    assert "--listen" not in default


async def dial(controller: Channel, lease: str) -> DialResponse:
    """A lease may be ready a moment before its exporter listens."""
    while True:
        try:
            return await ControllerServiceStub(controller).Dial(DialRequest(lease_name=lease), timeout=60)
        except RpcError as error:
            if "it may be back soon" not in error.details:
                raise
        await trio.sleep(0.05)


@asynccontextmanager
async def connected(config: ClientConfig, lease: str) -> AsyncIterator[tuple[Channel, str]]:
    """A connection to the board, and the router that carries it."""
    async with open_controller(config.endpoint, config.trust, config.identity) as controller:
        answer = await dial(controller, lease)
    async with (
        open_router_stream(answer.router_endpoint, config.trust, answer.router_token) as stream,
        open_channel(stream) as channel,
    ):
        yield channel, answer.router_endpoint


async def test_a_killed_router_takes_only_its_streams_along(lab: Lab) -> None:
    endpoints = [f"127.0.0.1:{exporters.free_port()}" for _ in range(2)]
    options = [word for one in endpoints for word in ("--router", one)]
    controller = lab.start_controller(*options)
    routers = {one: start_router(lab, one) for one in endpoints}

    async def said(sentence: str, times: int) -> None:
        while controller.log.read_text().count(sentence) < times:
            await trio.sleep(0.05)

    with trio.fail_after(30):
        for one in endpoints:
            await said(f"router {one} answers", 1)
    lab.exporter("one")
    config = client_config.load(str(lab.client("ann")), {})
    with trio.fail_after(60):
        async with (
            acquire_lease(config, LeaseRequest(selector="board=rpi4")) as lease,
            AsyncExitStack() as stack,
        ):
            channels = [await stack.enter_async_context(connected(config, lease.name)) for _ in range(4)]
            for channel, _ in channels:
                assert (await ExporterServiceStub(channel).GetReport(GetReport)).reports
            assert sorted(endpoint for _, endpoint in channels) == sorted(2 * endpoints)
            # A call that runs on each of them when it happens.
            logs = [
                await stack.enter_async_context(ExporterServiceStub(channel).LogStream(GetReport))
                for channel, _ in channels
            ]
            dead = endpoints[0]
            away = controller.log.read_text().count(f"router {dead} is away")
            routers[dead].process.kill()
            for (channel, endpoint), log in zip(channels, logs, strict=True):
                if endpoint == dead:
                    with pytest.raises(RpcError) as caught:
                        await drained(log)
                    assert caught.value.code is StatusCode.UNAVAILABLE
                    assert caught.value.details
                    assert channel.closed
                else:
                    assert (await ExporterServiceStub(channel).GetReport(GetReport)).reports
            # The controller notices, and sends nobody there any more.
            await said(f"router {dead} is away", 1 + away)
            assert await used(config, lease.name) == {endpoints[1]}
            start_router(lab, dead)
            await said(f"router {dead} answers", 2)
            assert await used(config, lease.name) == set(endpoints)


async def test_a_connection_that_nobody_came_for_ends_with_its_lease(lab: Lab) -> None:
    metrics = f"127.0.0.1:{exporters.free_port()}"
    lab.start_controller("--metrics-listen", metrics)
    lab.exporter("one")
    config = client_config.load(str(lab.client("ann")), {})

    def waiting() -> int:
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        (line,) = re.findall(r'jumpstarter_router_streams\{state="waiting"\} (\S+)', text)
        return int(float(line))

    async def until(count: int) -> None:
        while await trio.to_thread.run_sync(waiting) != count:
            await trio.sleep(0.05)

    with trio.fail_after(60):
        async with acquire_lease(config, LeaseRequest(selector="board=rpi4")) as lease:
            async with open_controller(config.endpoint, config.trust, config.identity) as controller:
                for _ in range(3):
                    await dial(controller, lease.name)
            await until(3)
        await until(0)


async def drained(log: ClientCall[Any, Any]) -> None:
    async for _ in log:
        pass


async def used(config: ClientConfig, lease: str) -> set[str]:
    """The routers of four connections, all of which have to work."""
    found = set()
    for _ in range(4):
        async with connected(config, lease) as (channel, endpoint):
            assert (await ExporterServiceStub(channel).GetReport(GetReport)).reports
            found.add(endpoint)
    return found


def test_a_lab_with_certificates_from_elsewhere(lab: Lab) -> None:
    authority = trustme.CA()
    chain, key = lab.home / "chain.pem", lab.home / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    endpoint = f"127.0.0.1:{exporters.free_port()}"
    given = ("--tls-cert", str(chain), "--tls-key", str(key))
    controller = lab.start_controller("--router", endpoint, *given)
    file = lab.home / "router.pem"
    assert "--tls-cert CHAIN --tls-key KEY" in lab.admin("router", "create", endpoint, "--save", file)
    assert "CERTIFICATE" not in file.read_text()
    program = exporters.scripts() / "jumpstarter-router"
    short_name = subprocess.run(
        [program, "--key", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert (short_name.returncode, "holds no certificate" in short_name.stderr) == (2, True)
    # It takes its name from the certificate, which has only this one.
    port = endpoint.rpartition(":")[2]
    router = lab.daemon(program, "--key", file, "--listen", f":{port}", *given)
    assert router.first_line() == f"Router on {endpoint}"
    lab.until(lambda: f"router {endpoint} answers" in controller.log.read_text())
    # It is replaced, as certbot does it.
    new = authority.issue_cert("127.0.0.1")
    new.cert_chain_pems[0].write_to_path(chain)
    new.private_key_pem.write_to_path(key)
    wanted = ssl.PEM_cert_to_DER_cert(new.cert_chain_pems[0].bytes().decode())
    for daemon, at in ((controller, lab.port), (router, int(port))):
        daemon.process.send_signal(signal.SIGHUP)
        lab.until(lambda: shown(at) == wanted)  # noqa: B023
        assert daemon.process.poll() is None


def shown(port: int) -> bytes:
    return trio.run(partial(fetch_certificate, "127.0.0.1", port))


def test_what_keeps_a_router_from_starting_is_one_sentence(lab: Lab) -> None:
    lab.start_controller()
    file = lab.home / "router.pem"
    lab.admin("router", "create", "router.lab:8083", "--save", file)
    elsewhere = lab.home / "elsewhere.pem"
    elsewhere.write_bytes(file.read_bytes())
    elsewhere.chmod(0o644)
    damaged = lab.home / "damaged.pem"
    damaged.touch(mode=0o600)
    damaged.write_text(file.read_text().replace("-----END JUMPSTARTER", "-----END OF JUMPSTARTER"))
    for words, sentence in {
        (file, "--listen", "127.0.0.1:0"): "is not for 127.0.0.1",
        (file, "--listen", "nowhere"): "is not an address: it has no port; write [HOST]:PORT",
        (elsewhere,): "chmod 600",
        (damaged,): "is damaged",
        (lab.data / "router.key",): "holds no certificate",
        (lab.data / "tls.key",): "admin router create",
        (file, "--tls-cert", file): "belong together",
        (lab.home / "nothing",): "cannot be read",
    }.items():
        command = [exporters.scripts() / "jumpstarter-router", "--key", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert "is not an address" in lab.admin("router", "create", "a/b", "--save", file, fails=True)
