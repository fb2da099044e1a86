"""The commands of docs/grpc.md that call an exporter with grpcurl, as they are in that page."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.support.peers import ROOT

PAGE = (ROOT / "docs" / "grpc.md").read_text()
LIMIT = 60


def commands() -> list[tuple[list[str], str]]:
    """The arguments and the shown output of each `$ grpcurl ...` in the page's section about it."""
    section = PAGE[PAGE.index("## With grpcurl") : PAGE.index("## With Python and grpcio")]
    [block] = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    found = re.findall(r"^\$ grpcurl (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE)
    return [(shlex.split(line), shown) for line, shown in found]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The configuration of the page."""
    [text] = re.findall(r"<!-- test file=lab.yaml -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = tmp_path / "lab.yaml"
    config.write_text(text)
    return config


def test_grpcurl_calls_an_exporter_as_the_page_says(grpcurl: Path, board: Path, tmp_path: Path) -> None:
    assert len(commands()) == 4
    outputs = []
    with exporters.our_unix(board, tmp_path) as exporter:
        for words, shown in commands():
            arguments = [exporter.address if word == "board.sock" else word for word in words]
            done = call(grpcurl, arguments)
            assert done.returncode == 0, done.stderr
            assert shown in ("", done.stdout)
            outputs.append(done.stdout)
        unnamed = ["-plaintext", "-unix", "-d", '{"wait": -1}', exporter.address]
        failed = call(grpcurl, [*unnamed, "jumpstarter.driver.power.v1.PowerInterface/Cycle"])
        read = ["-plaintext", "-unix", exporter.address, "jumpstarter.driver.power.v1.PowerInterface/Read"]
        readings = json.loads("[" + call(grpcurl, read).stdout.replace("}\n{", "},{") + "]")
    assert "jumpstarter.driver.network.v1.NetworkInterface" in outputs[0].splitlines()
    assert (
        "rpc Cycle ( .jumpstarter.driver.power.v1.CycleRequest ) returns ( .google.protobuf.Empty );"
        in outputs[1]
    )
    assert "Code: InvalidArgument" in failed.stderr
    assert "Message: wait is -1; it takes seconds, 0 or more" in failed.stderr
    assert [one.get("voltage", 0) for one in readings] == [0, 5]


def call(grpcurl: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([grpcurl, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False)
