"""Help and tables on narrow terminals: no line is longer than the terminal, and no word is broken."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable
from copy import deepcopy

import pexpect
import pytest
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.texts import cells
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_client.cli.commands import COMMANDS
from jumpstarter_client.cli.conftest import SCRIPTS, Command, process
from jumpstarter_client.cli.exporters import _table_of
from jumpstarter_client.cli.lease_common import lease_table
from jumpstarter_client.cli.output import print_described, print_table
from jumpstarter_client.cli.test import _print_steps
from jumpstarter_client.cli.verbs import client_class
from jumpstarter_client.conftest import FakeExporter
from jumpstarter_client.controller.exporter_view import describe_exporter, exporter_views
from jumpstarter_client.controller.lease_view import describe
from jumpstarter_client.manifests import interfaces
from jumpstarter_client.verb import verbs

LONG = "the relay board of the third shelf answers nothing, although its port is open; look at its cable"


def check(output: str, wide: str, width: int) -> None:
    assert output.strip()
    assert [line for line in output.splitlines() if cells(line) > width] == []
    assert _words(output) == _words(wide)


def _words(text: str) -> Counter[str]:
    return Counter(re.sub(r"[─│╭╮╰╯]", " ", text).split())


@pytest.mark.parametrize("width", [80, 60])
def test_help_fits(command: Command, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    pages = [["--help"], *([name, "--help"] for name in COMMANDS)]
    for interface in interfaces():
        pages.append([interface, "--help"])
        pages += [[interface, verb, "--help"] for verb in verbs(client_class(interface))]
    assert len(pages) > 50
    for page in pages:
        monkeypatch.setenv("COLUMNS", "500")
        wide = command("jumpstarter", *page)
        monkeypatch.setenv("COLUMNS", str(width))
        narrow = command("jumpstarter", *page)
        assert narrow.code == 0
        check(narrow.out, wide.out, width)


def _exporters() -> list[client_pb2.Exporter]:
    labels = {"board": "rpi4", "jumpstarter.dev/location": "munich-3", "purpose": "nightly-long-term-tests"}
    return [
        client_pb2.Exporter(
            name=f"namespaces/lab/exporters/a-board-with-a-long-name-{number}",
            labels=labels,
            online=True,
            status=common_pb2.EXPORTER_STATUS_OFFLINE,
            status_message=LONG,
        )
        for number in range(3)
    ]


def _lease() -> client_pb2.Lease:
    one = client_pb2.Lease(
        name="namespaces/lab/leases/0194f3c2-0000-7000-8000-0000aaaa0001",
        client="namespaces/lab/clients/somebody-from-the-other-team",
        exporter="namespaces/lab/exporters/a-board-with-a-long-name-1",
        selector="board=rpi4,jumpstarter.dev/location=munich-3,purpose=nightly-long-term-tests",
        tags={"job": "https://ci.example/job/17"},
    )
    one.duration.FromSeconds(7200)
    one.effective_begin_time.FromSeconds(1_900_000_000)
    return one


def _exporters_table() -> None:
    print_table(*_table_of(exporter_views(_exporters(), [_lease()]), None))


def _exporter() -> None:
    print_described(describe_exporter(exporter_views(_exporters(), [])[0], None, [_lease()] * 9))


def _leases_table() -> None:
    print_table(*lease_table([_lease(), _lease()], 1_900_000_100.0))


def _one_lease() -> None:
    print_described(describe(_lease(), 1_900_000_100.0))


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("output", [_exporters_table, _exporter, _leases_table, _one_lease, _print_steps])
def test_tables_with_long_values_fit(
    output: Callable[[], None],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    output()
    narrow = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "2000")
    output()
    wide = capsys.readouterr().out
    assert [line for line in narrow.splitlines() if cells(line) > width] == []
    pieces = {piece for word in narrow.split() for piece in re.findall(r"[^,]*,?", word)}
    missing = [word for word in wide.split() for piece in re.findall(r"[^,]*,?", word) if piece not in pieces]
    assert missing == [], "a word was broken, or is not there"


@pytest.mark.parametrize("width", [80, 60])
def test_devices_with_long_reasons_fit(
    lab: FakeExporter, command: Command, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lab.reports = deepcopy(lab.reports)
    for report in lab.reports[1:]:
        report.labels["jumpstarter.dev/state"] = "missing"
        report.labels["jumpstarter.dev/reason"] = LONG
    monkeypatch.setenv("COLUMNS", "500")
    wide = command("jumpstarter", "devices").out
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = command("jumpstarter", "devices").out
    check(narrow, wide, width)
    assert len(narrow.splitlines()) > len(wide.splitlines())


@pytest.mark.parametrize(
    ("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_states_and_errors_have_colours_on_terminals_only(
    lab: FakeExporter, variables: dict[str, str], is_coloured: bool
) -> None:
    lab.reports = deepcopy(lab.reports)
    lab.reports[-1].labels["jumpstarter.dev/state"] = "failed"
    lab.reports[-1].labels["jumpstarter.dev/reason"] = "it is broken"
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    for words, text in ((["devices"], "failed"), (["power", "none"], "error:")):
        line = shlex.join([str(SCRIPTS / "jumpstarter"), *words])
        said = pexpect.run(
            line, env=environment | {"TERM": "xterm"} | variables, timeout=60, encoding="utf-8"
        )
        assert f"\x1b[31m{text}\x1b[0m" in said if is_coloured else "\x1b" not in said, said
        assert text in said
        with process("jumpstarter", *words, env=environment | {"TERM": "xterm"} | variables) as piped:
            out, err = piped.communicate(timeout=60)
        assert text in out + err
        assert "\x1b" not in out + err
