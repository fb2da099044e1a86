from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.config.host_labels import VARIABLE, HostLabelsError, host_labels
from jumpstarter_exporter.config.model import Enrolment, Tls

HOST = Enrolment("lab:8082", "default", "pi4", "token", Tls(), Path("host.yaml"))


def test_labels_are_read_from_the_environment() -> None:
    assert host_labels({}) == {}
    assert host_labels({VARIABLE: " rack=3, example.com/site=berlin,empty=, "}) == {
        "rack": "3",
        "example.com/site": "berlin",
        "empty": "",
    }
    with pytest.raises(HostLabelsError, match="has 'rack', which is not a label; write KEY=VALUE"):
        host_labels({VARIABLE: "site=berlin,rack"})


def test_a_board_of_its_host_has_them_beside_its_own_which_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "rack=3,site=berlin")
    file = tmp_path / "rpi4.yaml"
    file.write_text("metadata: {labels: {site: munich}}\nexport: {}\n")
    board = configuration.load(file, lenient=True)
    assert board.labels == {"site": "munich"}
    assert replace(board, enrolment=HOST).labels == {"site": "munich"}
    assert replace(board, enrolment=replace(HOST, host=HOST)).labels == {"rack": "3", "site": "munich"}
