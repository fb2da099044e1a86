"""What `jumpstarter-exporter` says of a command line that it cannot read."""

from __future__ import annotations

import pytest
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.cli.main import main


def test_run_with_a_file_names_the_option_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "rpi4.yaml"])
    assert ended.value.code == ExitCode.USAGE
    assert "did you mean --config rpi4.yaml?" in capsys.readouterr().err
