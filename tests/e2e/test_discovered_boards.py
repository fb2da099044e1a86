"""What is plugged into a host that was paired once is a board at the controller, without a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from jumpstarter_exporter import paths
from jumpstarter_exporter.serve import host as module
from jumpstarter_exporter.serve.test_discovery import CP2102, FT232R, Bench, relay

from tests.e2e.lab import LIMIT, Lab
from tests.e2e.test_host_registration import Host
from tests.interop import exporters
from tests.support import lab as support
from tests.support.served_host import channel, listed, reload


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


@pytest.fixture
def bench(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A host that is called otherwise than its controller calls it."""
    host = Host(lab, "rack3")
    host.enrol()
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(host.state))
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(paths, "SYSTEM_CONFIG_FOLDER", tmp_path / "none" / "exporters")
    monkeypatch.setattr(module, "limit_shutdown_time", lambda *_: None)
    return Bench(tmp_path)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(bench.serve, leads=True, discovery=bench.discovery()))
        yield
        nursery.cancel_scope.cancel()


async def found(lab: Lab) -> dict[str, dict[str, Any]]:
    """Exporters by name. By a process of its own: this one has an exporter in it, that prints."""
    command = [exporters.scripts() / "jumpstarter-controller", "admin", "exporter", "list", "-o", "json"]
    done = await trio.run_process(
        [*command, "--data", lab.data, "--namespace", lab.namespace], capture_stdout=True
    )
    return {one["name"]: one for one in json.loads(done.stdout)["exporters"]}


async def until(lab: Lab, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """That exporter, when it is so."""
    with trio.fail_after(LIMIT):
        while not ((one := (await found(lab)).get(name)) and holds(one)):
            await trio.sleep(0.02)
    return one


def is_available(one: dict[str, Any]) -> bool:
    return bool(one["status"] == "AVAILABLE")


async def test_a_plugged_device_is_leased_by_labels_that_follow_what_is_plugged(
    lab: Lab, bench: Bench
) -> None:
    (bench.home / "config" / "profiles.d").mkdir()
    (bench.home / "config" / "profiles.d" / "relay.yaml").write_text(relay())
    bench.plug({2: (FT232R, "A1")})

    ann = lab.client("ann")
    async with running(bench):
        power = "jumpstarter.dev/interface-power"
        one = await until(lab, "rack3", lambda one: is_available(one) and power in one["labels"])
        before = one["labels"]
        rule = {
            "jumpstarter.dev/host": "rack3",
            "jumpstarter.dev/board": "rack3",
            "host": "rack3",
            "board": "rack3",
        }
        assert before.items() >= rule.items()
        bench.plug({2: (FT232R, "A1"), 3: (CP2102, "B1")})
        await until(lab, "rack3", lambda one: len(one["labels"]) > len(before))
        words = ("lease", "create", "-l", "host=rack3,jumpstarter.dev/interface-power", "--client", ann)
        await trio.to_thread.run_sync(lambda: lab.ok(*words))
        await until(lab, "rack3", lambda one: one["status"] == "LEASE_READY")


async def test_a_discovered_board_that_boards_yaml_does_away_with_is_gone(lab: Lab, bench: Bench) -> None:
    (bench.home / "config" / "profiles.d").mkdir()
    (bench.home / "config" / "profiles.d" / "relay.yaml").write_text(relay())
    bench.plug({2: (FT232R, "A1")})
    async with running(bench):
        await until(lab, "rack3", is_available)
    (bench.home / "config" / "boards.yaml").write_text("boards: {shelf: {ports: ['1-1.2']}}\n")
    bench.plug({2: (FT232R, "A1")})
    async with running(bench):
        await until(lab, "rack3-shelf", is_available)
        await until(lab, "rack3", lambda one: "gone_since" in one)


async def test_a_discovered_board_of_a_host_that_was_not_paired_is_leased_with_a_token_of_its_own(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a code, or from the file with a token that a controller without hosts writes."""
    config, state = tmp_path / "config", tmp_path / "state"
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(state))
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(config))
    monkeypatch.setattr(paths, "SYSTEM_CONFIG_FOLDER", tmp_path / "none" / "exporters")
    monkeypatch.setattr(module, "limit_shutdown_time", lambda *_: None)
    bench = Bench(tmp_path)
    (config / "profiles.d").mkdir()
    (config / "profiles.d" / "relay.yaml").write_text(relay())
    (config / "boards.yaml").write_text("boards: {rpi4: {ports: [1-1.2]}, rock: {ports: [1-1.3]}}\n")

    def run(*words: str | Path, given: str = "") -> str:
        done = subprocess.run(
            [exporters.scripts() / words[0], *words[1:]],
            env=lab.environment | {"JUMPSTARTER_STATE_DIRECTORY": str(state)},
            input=given,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def enrol(exporter: str, *words: str | Path) -> None:
        offer = json.loads(lab.admin("pair", "exporter", exporter, "-o", "json"))
        run(*offer["command"], *words, given=offer["code"])

    saved = tmp_path / "saved.yaml"
    await trio.to_thread.run_sync(enrol, "one", "--board", "pi4-rpi4")
    await trio.to_thread.run_sync(enrol, "two", "--save", saved)
    bench.plug({2: (FT232R, "A1"), 3: (CP2102, "0001")})
    async with running(bench):
        await until(lab, "one", is_available)
        async with channel(bench.door) as door:
            boards = await listed(door)
            assert boards["pi4-rpi4"].exporter.startswith(f"exporter {lab.namespace}/one of ")
            assert boards["pi4-rock"].exporter == ""
            endpoint = yaml.safe_load(saved.read_text())["endpoint"]
            words = ("enrol", endpoint, "--board", "pi4-rock", "--token-from", saved)
            await trio.to_thread.run_sync(run, "jumpstarter-exporter", *words)
            await reload(door)
        await until(lab, "two", is_available)
    other = lab.home / ".config" / "jumpstarter" / "exporters" / "other.yaml"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("export: {power: {type: power.MockPower}}")
    checked = await trio.to_thread.run_sync(run, "jumpstarter-exporter", "check")
    assert "is the identity of a board" not in checked  # none is without one
