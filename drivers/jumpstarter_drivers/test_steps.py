"""Steps of board tests, on a virtual board and an echo: what each does, gives and says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.yamltest.machine import RunOutcome
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.run import Runner
from jumpstarter_client.yamltest.run_events import RunEnded
from jumpstarter_client.yamltest.variables import as_text
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.devices.cores import keeping_open, managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.spec import Spec, parts_of
from jumpstarter_proto.tasks import collapsed

from jumpstarter_drivers.network.driver import EchoNetwork
from jumpstarter_drivers.testing import serve_async
from jumpstarter_drivers.virtual.driver import VirtualBoard
from jumpstarter_drivers.virtual.image import make_image


@asynccontextmanager
async def devices(boot_seconds: float = 0) -> AsyncIterator[DriverClient]:
    settings = {"boot_seconds": boot_seconds}
    board = Spec(VirtualBoard, settings, parts_of(VirtualBoard, settings))
    spec = Spec(Composite, children={"rpi4": board, "net": Spec(EchoNetwork)})
    with collapsed():
        async with managed_cores(lab := BoardDevices("lab", spec)), trio.open_nursery() as nursery:
            nursery.start_soon(keeping_open, lab)
            async with serve_async(lab) as root:
                yield root
            nursery.cancel_scope.cancel()


async def run(root: DriverClient, folder: Path, steps: str) -> RunEnded:
    file = folder / "test.yaml"
    file.write_text(f"steps:\n{steps}")
    runner = Runner(read(file, None), root.node, tell=lambda _: None, folder=folder / "results")
    with trio.fail_after(60):
        return await runner.run()


def said(ended: RunEnded) -> list[str]:
    return [line for step in ended.steps if step.title.startswith("log") for line in step.said]


async def test_power_is_switched_cycled_and_measured(tmp_path: Path) -> None:
    steps = """
  - power.off
  - power.cycle: 10ms
  - power.read:
    capture: first
  - power.cycle: {wait: 0.01}
  - power.off:
  - power.read:
    capture: second
  - log: from ${first} to ${second}
"""
    async with devices() as root:
        ended = await run(root, tmp_path, steps)
    assert ended.outcome is RunOutcome.PASSED, ended.reason
    readings = [step.result for step in ended.steps if step.title.startswith("power.read")]
    assert [reading["current"] > 0 for reading in readings] == [True, False]
    assert said(ended) == [f"from {as_text(readings[0])} to {as_text(readings[1])}"]


async def test_storage_is_switched_written_and_read(tmp_path: Path) -> None:
    make_image(tmp_path / "card.img", "hello", "2.0", 1 << 20)
    steps = """
  - storage.host
  - storage.flash: card.img
  - storage.off
  - storage.dump: {file: back.img}
    capture: path
  - storage.dump: {file: packed/back.gz, compression: gzip}
  - storage.dut: {force: true}
  - log: ${path}
"""
    async with devices() as root:
        ended = await run(root, tmp_path, steps)
    assert ended.outcome is RunOutcome.PASSED, ended.reason
    back = tmp_path / "results" / "back.img"
    assert said(ended) == [str(back)]
    assert back.read_bytes()[: 1 << 20] == (tmp_path / "card.img").read_bytes()
    assert (tmp_path / "results" / "packed" / "back.gz").read_bytes()[:2] == b"\x1f\x8b"
    (flashed,) = [step.said for step in ended.steps if step.title.startswith("storage.flash")]
    assert "verified" in flashed[0]


async def test_a_shell_is_reached_and_its_commands_have_the_status_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = """
  - power.on
  - serial.login:
    timeout: 30s
  - serial.run: echo one; echo two
    capture: said
  - serial.run: {command: "false", status: 1}
  - serial.run: {command: "false", status: null}
  - log: ${said}
  - serial.run: "false"
"""
    async with devices() as root:
        ended = await run(root, tmp_path, steps)
        assert ended.outcome is RunOutcome.FAILED
        assert "`false` ended with status 1, not 0" in ended.reason
        assert said(ended) == ["one\ntwo"]
        monkeypatch.delenv("BOARD_PASSWORD", raising=False)
        ended = await run(root, tmp_path, "  - serial.login: {user: ann, password-env: BOARD_PASSWORD}\n")
    assert "the environment has no BOARD_PASSWORD; set it to the password of ann" in ended.reason


async def test_a_command_waits_for_the_boot_and_logs_in_and_stops_no_boot_loader(tmp_path: Path) -> None:
    steps = """
  - power.on
  - serial.run: uname -n
  - serial.run: echo at once
  - power.cycle: 10ms
  - serial.run: uname -n
  - serial.send: reboot
  - serial.run: uname -n
"""
    async with devices(boot_seconds=0.5) as root:
        ended = await run(root, tmp_path, steps)
    assert ended.outcome is RunOutcome.PASSED, ended.reason
    [log] = (tmp_path / "results").rglob("*.log")
    printed = log.read_text()
    # A login sends Enter where it hears nothing: each boot has one, and a shell that is known to be there has none.
    assert (printed.count("U-Boot 20"), printed.count("login: root")) == (3, 3), printed


async def test_a_command_logs_in_as_the_step_before_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARD_PASSWORD", "wrong")
    steps = """
  - power.on
  - serial.login: {user: nobody, password-env: BOARD_PASSWORD}
"""
    async with devices() as root:
        ended = await run(
            root, tmp_path, f"{steps}    timeout: 5s\nalways:\n  - serial.run: id\n    timeout: 5s\n"
        )
    assert ended.outcome is not RunOutcome.PASSED
    assert "nobody" in ended.steps[-1].reason, ended.steps[-1].reason


async def test_a_service_is_connected_to_and_answers(tmp_path: Path) -> None:
    steps = """
  - network.connect
  - network.exchange: {send: "hello, you", expect: "lo, y"}
    capture: answer
  - log: it said ${answer}
  - network.exchange: {send: hello, expect: bye}
    timeout: 0.2s
"""
    async with devices() as root:
        ended = await run(root, tmp_path, steps)
    assert said(ended) == ["it said hello, you"]
    assert ended.outcome is RunOutcome.FAILED
    assert "not finished within 0.2 s" in ended.reason
