"""Hooks around a daemon's session, as Jumpstarter 0.9's client sees them over TCP."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.peers import Environment

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: lab, name: hooks}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
hooks:
"""


@contextmanager
def daemon(home: Path, **hooks: str) -> Iterator[tuple[Daemon, dict[str, str]]]:
    """An exporter on TCP; a hook is `script|onFailure|timeout`."""
    text = CONFIG
    for name, hook in hooks.items():
        script, _, rest = hook.partition("|")
        how, _, timeout = rest.partition("|")
        key = {"before": "beforeLease", "after": "afterLease"}[name]
        text += f"  {key}: {{script: {script!r}, onFailure: {how or 'warn'}, timeout: {timeout or 60}}}\n"
    (home / "lab.yaml").write_text(text)
    address = f"127.0.0.1:{exporters.free_port()}"
    command: exporters.Command = [
        exporters.scripts() / "jumpstarter-exporter",
        "run",
        "--config",
        home / "lab.yaml",
    ]
    command += ["--socket", home / "s", "--listen", address, "--insecure", "--log-level", "info"]
    with exporters.running(command, home) as running:
        running.first_line()
        yield running, {"JUMPSTARTER_HOST": address, "JMP_GRPC_INSECURE": "1", "JMP_DRIVERS_ALLOW": "UNSAFE"}


def shell(upstream: Environment, home: Path, address: str, *command: str) -> subprocess.CompletedProcess[str]:
    """`jmp shell --tls-grpc ... -- command`."""
    return subprocess.run(
        [upstream.bin / "jmp", "shell", "--tls-grpc", address, "--tls-grpc-insecure", "--", *command],
        env=exporters.clean_environment(home) | {"PATH": f"{upstream.bin}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def end(running: Daemon) -> int:
    running.process.terminate()
    return running.process.wait(30)


def log_of(home: Path) -> str:
    return (home / "jumpstarter-exporter.log").read_text()


def test_their_client_waits_for_the_hook_and_sees_its_output(upstream: Environment, tmp_path: Path) -> None:
    before = "while ! test -e $HOME/go; do echo it heats up; sleep 0.1; done; echo prepared for $LEASE_NAME"
    with daemon(tmp_path, before=before, after="j power off && touch $HOME/after") as (running, environment):
        host = environment["JUMPSTARTER_HOST"]
        with subprocess.Popen(
            [
                upstream.bin / "jmp",
                "shell",
                "--tls-grpc",
                host,
                "--tls-grpc-insecure",
                "--",
                "j",
                "power",
                "on",
            ],
            env=exporters.clean_environment(tmp_path) | {"PATH": f"{upstream.bin}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as theirs:
            try:
                assert theirs.stdout is not None
                said = ""
                while "it heats up" not in said:
                    line = theirs.stdout.readline()
                    assert line, said
                    said += line
                assert theirs.poll() is None, "it cannot end before the hook has"
                (tmp_path / "go").touch()
                said += theirs.communicate(timeout=60)[0]
            finally:
                theirs.kill()
        assert theirs.returncode == 0, said
        assert "prepared for standalone" in said
        assert end(running) == 0
    assert (tmp_path / "after").exists()
    assert "AFTER_LEASE_HOOK: Running afterLease hooks" in log_of(tmp_path)


def test_a_warning_reaches_their_user_and_the_board_is_there(upstream: Environment, tmp_path: Path) -> None:
    with daemon(tmp_path, before="echo the supply is old; exit 3|warn") as (running, environment):
        done = shell(upstream, tmp_path, environment["JUMPSTARTER_HOST"], "j", "power", "on")
        assert done.returncode == 0, done
        assert "Hook failed with exit code 3" in done.stdout + done.stderr
        assert end(running) == 0
    assert "AVAILABLE: Available for new lease" in log_of(tmp_path)


def test_nobody_gets_a_board_whose_hook_refuses_it(upstream: Environment, tmp_path: Path) -> None:
    with daemon(tmp_path, before="exit 3|endLease", after="touch $HOME/after") as (running, environment):
        done = shell(upstream, tmp_path, environment["JUMPSTARTER_HOST"], "true")
        assert done.returncode != 0
        assert "beforeLease hook failed (on_failure=endLease)" in "".join(
            (done.stdout + done.stderr).split("\n")
        )
        assert end(running) == 0
    assert not (tmp_path / "after").exists()


def test_exit_ends_the_exporter(tmp_path: Path) -> None:
    with daemon(tmp_path, before="exit 3|exit", after="touch $HOME/after") as (running, _):
        assert running.process.wait(30) == 1
    assert not (tmp_path / "after").exists()
    assert "OFFLINE: beforeLease hook failed (on_failure=exit, shutting down)" in log_of(tmp_path)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("warn", 0, "AVAILABLE: [HOOK_WARNING] afterLease hook warning: Hook failed with exit code 3"),
        ("endLease", 0, "AFTER_LEASE_HOOK_FAILED: afterLease hook failed (on_failure=endLease)"),
        ("exit", 1, "OFFLINE: afterLease hook failed (on_failure=exit, shutting down)"),
    ],
)
def test_what_a_failing_after_hook_means(tmp_path: Path, how: str, code: int, said: str) -> None:
    with daemon(tmp_path, after=f"exit 3|{how}") as (running, _):
        assert end(running) == code
    assert said in log_of(tmp_path)


def test_a_hook_whose_time_is_over_has_failed(tmp_path: Path) -> None:
    with daemon(tmp_path, before="sleep 1000|exit|1") as (running, _):
        assert running.process.wait(30) == 1
    assert "Hook timed out after 1 seconds" in log_of(tmp_path)


def test_an_exporter_that_is_told_to_end_lets_its_hook_finish_and_cleans_up(tmp_path: Path) -> None:
    before = "touch $HOME/begun; while ! test -e $HOME/go; do sleep 0.1; done; touch $HOME/finished"
    with daemon(tmp_path, before=before, after="test -e $HOME/finished && touch $HOME/after") as (running, _):
        while not (tmp_path / "begun").exists():
            assert running.process.poll() is None
        running.process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(2)
        (tmp_path / "go").touch()
        assert running.process.wait(30) == 0
    assert (tmp_path / "after").exists()
