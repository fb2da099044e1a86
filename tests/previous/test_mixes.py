"""A board of a controller, with client, exporter and controller of two versions in every mix."""

from __future__ import annotations

import json
import re
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pexpect
import pytest

from tests.interop import exporters
from tests.interop.user import LIMIT
from tests.previous.conftest import Mix


class Watch:
    """A command that prints what changes until it is interrupted."""

    def __init__(self, mix: Mix, *words: str) -> None:
        self._mix = mix
        self._words = words
        self._lines: list[str] = []
        self._read = 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._process = self._stack.enter_context(self._mix.client.start(*self._words))
        self._reader = threading.Thread(target=self._take, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._stack:
            self._process.send_signal(signal.SIGINT)
            code = self._process.wait(timeout=LIMIT)
            self._reader.join(LIMIT)
            assert kind is not None or code == 130

    def _take(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def until(self, *sentences: str) -> None:
        """Wait for one of these behind what was waited for before."""

        def came() -> bool:
            for number, line in enumerate(self._lines[self._read :], self._read + 1):
                if any(sentence in line for sentence in sentences):
                    self._read = number
                    return True
            return False

        self._mix.lab.until(came)


class Tunnels:
    """What goes through the router. A class of these is one lab: pytest-xdist may give each its worker."""

    router: str | None = None
    """The version of a router in its own process."""

    @pytest.fixture(autouse=True)
    def nothing_left(self, mix: Mix) -> None:
        """Each test begins with a free board, also after one that failed."""
        if mix.lab.leases():
            for person in (mix.client, mix.other):
                person.ours("lease", "release", "--all", check=False)
        mix.lab.until(lambda: not mix.lab.leases() and mix.lab.status(mix.board) == "AVAILABLE")

    def test_one_command_on_a_leased_board(self, mix: Mix) -> None:
        mix.client.ours("power", "on", "rpi4", *mix.selector)
        assert mix.lab.leases() == [], "a lease was left behind"

    def test_a_shell_flashes_and_dumps_an_image(self, mix: Mix, card: Path, tmp_path: Path) -> None:
        commands = [
            "j rpi4 power on",
            f"jumpstarter storage flash rpi4 {card}",
            f"jumpstarter storage dump rpi4 {tmp_path}/dump",
            "jumpstarter lease extend 30m",
        ]
        mix.client.ours("shell", *mix.selector, inside=("sh", "-e", "-c", "; ".join(commands)))
        assert (tmp_path / "dump").read_bytes() == card.read_bytes()
        assert mix.lab.everything()[-1].duration.seconds == 3600

    def test_somebody_logs_in_on_the_console(self, mix: Mix) -> None:
        name = mix.client.ours("lease", "create", *mix.selector, "-o", "name").stdout.strip()
        # Not `on`: a board of this tree stays as the lease before has left it.
        mix.client.ours("power", "cycle", "rpi4", "--wait", "0", "--lease", name)
        terminal = pexpect.spawn(
            str(exporters.scripts(mix.client.installed) / "jumpstarter"),
            [
                "serial",
                "start-console",
                "rpi4",
                "--last",
                "100",
                "--lease",
                name,
                "--client",
                str(mix.client.file),
            ],
            env=mix.client.environment(theirs=False) | {"TERM": "xterm"},
            encoding="utf-8",
            dimensions=(24, 80),
            timeout=LIMIT,
        )
        try:
            terminal.expect("rpi4 login: ")
            terminal.sendline("root")
            terminal.expect("# ")
            terminal.sendline("true; echo answer=$?")
            terminal.expect("answer=0\r")
            terminal.send("\x02\x02\x02")
            terminal.expect(pexpect.EOF)
        finally:
            terminal.close()
        assert terminal.exitstatus == 0
        mix.client.ours("lease", "release", name)


class Mixes(Tunnels):
    """What every mix can do."""

    def test_a_lease_is_created_listed_and_released(self, mix: Mix) -> None:
        name = mix.client.ours("lease", "create", *mix.selector, "-o", "name").stdout.strip()
        [lease] = json.loads(mix.client.ours("lease", "list", "-o", "json").stdout)["leases"]
        assert (lease["name"], lease["exporter"], lease["client"]) == (name, mix.board, mix.client.name)
        mix.client.ours("power", "on", "rpi4", "--lease", name)
        assert [one.name for one in mix.lab.leases()] == [f"namespaces/default/leases/{name}"]
        mix.client.ours("lease", "release", name)
        assert mix.lab.leases() == []

    def test_the_second_waits_in_the_queue_and_gets_the_board(self, mix: Mix) -> None:
        held = mix.other.ours("lease", "create", *mix.selector, "-o", "name").stdout.strip()
        with mix.client.shell(*mix.selector, script="echo $JMP_EXPORTER", theirs=False) as shell:
            mix.lab.until(lambda: len(mix.lab.leases()) == 2 or shell.poll() is not None)
            [waiting] = [lease for lease in mix.lab.leases() if not lease.exporter]
            assert waiting.client.endswith(mix.client.name)
            assert waiting.conditions[-1].reason == "NotAvailable"
            mix.other.ours("lease", "release", held)
            said, _ = shell.communicate(timeout=LIMIT)
        assert shell.returncode == 0, said
        assert said.splitlines()[-1] == mix.board
        assert "next in the queue" in re.sub(r"\s+", " ", said)

    def test_exporters_and_leases_are_watched(self, mix: Mix) -> None:
        """Told by a controller of this tree to a client of this tree; in all other mixes it is asked."""
        with Watch(mix, "exporters", "--watch") as boards, ExitStack() as stack:
            # The version before lists leases only.
            told = stack.enter_context(Watch(mix, "lease", "list", "-A", "--watch")) if mix.is_ours else None
            boards.until(f"{mix.board} is free")
            name = mix.other.ours("lease", "create", *mix.selector, "-o", "name").stdout.strip()
            boards.until(f"{mix.board} is leased: {mix.other.name}")
            if told:
                told.until(f"{name} of {mix.other.name} is ready")
            mix.other.ours("lease", "release", name)
            boards.until(f"{mix.board} is free")
            if told:
                told.until(
                    f"{name} of {mix.other.name} has ended", f"{name} is not {mix.other.name}'s any more"
                )

    def test_a_lease_outlives_the_controller(self, mix: Mix) -> None:
        """What runs goes on; a command that needs the board afterwards gets a new connection."""
        go, ready = mix.lab.home / "go", mix.lab.home / "ready"
        script = f"rm -f {go}; j rpi4 power on && touch {ready}; while ! test -e {go}; do sleep 0.05; done"
        script += f"; rm {ready} {go}; j rpi4 power off"
        with mix.client.shell(*mix.selector, script=script, theirs=False) as shell:
            mix.lab.until(lambda: ready.exists() or shell.poll() is not None)
            [before] = mix.lab.leases()
            mix.lab.kill_controller()
            mix.lab.start_controller()
            [after] = mix.lab.leases()
            assert (after.name, after.exporter, after.effective_begin_time) == (
                before.name,
                before.exporter,
                before.effective_begin_time,
            )
            go.touch()
            said, _ = shell.communicate(timeout=LIMIT)
        assert shell.returncode == 0, said


class TestControllerOfThisTree(Mixes):
    controller = "now"


class TestControllerBefore(Mixes):
    controller = "before"


class TestRouterBefore(Tunnels):
    controller, router = "now", "before"


class TestRouterOfThisTree(Tunnels):
    controller, router = "before", "now"
