"""What `jumpstarter-exporter` says of a command line that it cannot read."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.cli.main import main


def test_run_with_a_file_names_the_option_for_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "rpi4.yaml"])
    assert ended.value.code == ExitCode.USAGE
    assert "did you mean --config rpi4.yaml?" in capfd.readouterr().err


def test_version_is_that_of_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out.strip()) == (ExitCode.OK, version("jumpstarter-sbc"))
