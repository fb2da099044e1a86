"""Folders with paths longer than a unix socket's address: TMPDIR, a socket's own, and a controller's data."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from jumpstarter_proto.rpc import socket_folder

from tests.interop import exporters
from tests.support.lab import EXPORT, LIMIT, Lab


@pytest.fixture
def far(tmp_path: Path) -> Path:
    path = tmp_path / ("d" * 120)
    path.mkdir()
    return path


def test_a_shell_tells_other_programs_a_short_path_where_tmpdir_is_long(far: Path) -> None:
    config = far / "rpi4.yaml"
    config.write_text(f"apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\n{EXPORT}")
    program = exporters.scripts() / "jumpstarter"
    script = f"{program} power on && printf %s $JUMPSTARTER_HOST"
    # Its runtime directory has the daemon's socket, or none.
    environment = exporters.clean_environment(far.parent) | {"TMPDIR": str(far)}
    command = [program, "shell", "--config", config, "--", "sh", "-c", script]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(os.fsencode(done.stdout)) <= 107
    assert [path.name for path in far.iterdir()] == ["rpi4.yaml"]


def test_an_exporter_with_a_long_socket_path_is_used_and_replaced(far: Path) -> None:
    config, path = far / "rpi4.yaml", far / "exporter.sock"
    config.write_text(f"apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\n{EXPORT}")
    command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run", "--config", config]
    command += ["--socket", path]
    # What a dead process left there is looked at first.
    with (
        socket_folder("js-") as folder,
        exporters.running([*command[:-1], folder / "socket"], folder) as first,
    ):
        first.first_line()
        (folder / "socket").rename(path)
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert "another exporter listens on" in done.stderr
    with exporters.running(command, far) as daemon:
        assert daemon.first_line() == f"Listening on {path}"
        done = subprocess.run(
            [exporters.scripts() / "jumpstarter", "power", "on"],
            env=exporters.clean_environment(far) | {"JUMPSTARTER_HOST": str(path)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_controller_whose_data_folder_has_a_long_path_is_administrated_while_it_runs(far: Path) -> None:
    with ExitStack() as stack:
        lab = Lab(far, stack)
        lab.start_controller()
        lab.client("ann")
        assert "ann" in lab.admin("client", "list").split()
