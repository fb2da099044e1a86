"""Five thousand silent TLS connections from one address, and a client from another address."""

from __future__ import annotations

import resource
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import trio
import trustme
from jumpstarter_proto.rpc import ConnectionLimits, client_ssl_context, connect_tcp, open_channel

from tests.faults.attackers import Raw, method, tcp
from tests.faults.controllers import controller
from tests.interop import exporters

pytestmark = pytest.mark.timeout(300)
MANY = 5000
SECONDS = 1.0
PASSPHRASE = "open sesame"


@contextmanager
def a_controller(home: Path) -> Iterator[tuple[int, int]]:
    with controller(home) as lab:
        yield lab.port, lab.pid


@contextmanager
def an_exporter(home: Path) -> Iterator[tuple[int, int]]:
    """One that asks for a passphrase."""
    made = trustme.CA().issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(home / "lab.key")
    made.cert_chain_pems[0].write_to_path(home / "lab.crt")
    (home / "lab.yaml").write_text("export: {power: {type: power.MockPower}}\n")
    (home / "secret").write_text(PASSPHRASE)
    port = exporters.free_port()
    command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run"]
    command += ["--config", home / "lab.yaml", "--socket", home / "exporter.sock"]
    command += ["--listen", f"127.0.0.1:{port}", "--passphrase-file", home / "secret"]
    command += ["--tls-cert", home / "lab.crt", "--tls-key", home / "lab.key"]
    with exporters.running(command, home) as daemon:
        daemon.first_line()
        yield port, daemon.process.pid


def trusting() -> ssl.SSLContext:
    context = client_ssl_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


CALLS = {
    a_controller: "/jumpstarter_sbc.lab.v1.EnrolmentService/ListIssuers",
    an_exporter: "/jumpstarter.v1.ExporterService/GetReport",
}


async def ask(port: int, path: str) -> float:
    """Connect, make a call and have its answer; how long that takes."""
    start = trio.current_time()
    stream = await connect_tcp("127.0.0.1", port, ssl_context=trusting(), server_hostname="127.0.0.1")
    async with open_channel(stream, scheme="https") as channel:
        await channel.unary(method(path), Raw(), metadata=[("x-jumpstarter-passphrase", PASSPHRASE)])
    return trio.current_time() - start


@pytest.mark.parametrize("serve", CALLS)
async def test_they_keep_out_nobody_from_another_address(
    serve: Callable[[Path], AbstractContextManager[tuple[int, int]]],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(MANY + 500, hard)), hard))
    held: list[trio.abc.Stream] = []

    async def hold(port: int, limit: trio.CapacityLimiter) -> None:
        async with limit:
            held.append(await tcp(port))

    with tempfile.TemporaryDirectory(prefix="silent-") as home, serve(Path(home)) as (port, pid):
        try:
            alone = min([await ask(port, CALLS[serve]) for _ in range(5)])
            limit = trio.CapacityLimiter(
                100
            )  # what listens has a short queue, and the kernel is slow beyond it
            async with trio.open_nursery() as nursery:
                for _ in range(MANY):
                    nursery.start_soon(hold, port, limit)
            files = Path(f"/proc/{pid}/fd")
            with trio.fail_after(60):
                # As many as may wait, the 16 that are in, and the server's own.
                while len(list(files.iterdir())) < ConnectionLimits.waiting:
                    await trio.sleep(0.05)
            took = sorted([await ask(port, CALLS[serve]) for _ in range(9)])
        finally:
            for stream in held:
                await trio.aclose_forcefully(stream)
    figures = (
        f"alone {alone * 1000:.0f} ms; beside {MANY} {took[4] * 1000:.0f} ms, {took[-1] * 1000:.0f} at most"
    )
    print(f"{serve.__name__}: {figures}")
    assert took[4] < SECONDS, took
