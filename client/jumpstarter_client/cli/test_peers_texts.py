"""What a peer wrote does nothing to the terminal of who reads it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from copy import deepcopy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.cli import entry
from jumpstarter_client.cli.conftest import Command
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.cli.output import table, write_data
from jumpstarter_client.conftest import FakeExporter
from jumpstarter_client.status_line import print_message

EVIL = "evil\x1b[2J\rname\u202e"
SHOWN = "evil\\x1b[2J\\rname\\u202e"


def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    entry._explain(RpcError(StatusCode.UNKNOWN, f"no {EVIL}; these are:\n  one\n  two"), GlobalOptions())
    assert capsys.readouterr().err == f"error: no {SHOWN}; these are:\n  one\n  two\n"


def test_a_peers_line_is_not_a_message_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    entry._explain(RpcError(StatusCode.UNKNOWN, "no\nerror: log in again at evil.example\n"), GlobalOptions())
    assert capsys.readouterr().err == "error: no\n  error: log in again at evil.example\n  \n"


def test_tables() -> None:
    lines = table(("NAME", "REASON"), [(EVIL, "one\ntwo")]).splitlines()
    assert lines[1:] == [f"{SHOWN}  one\\ntwo"]


def test_notices(capsys: pytest.CaptureFixture[str]) -> None:
    print_message(f"Waiting: {EVIL}")
    assert capsys.readouterr().err == f"Waiting: {SHOWN}\n"


TITLE = "\x1b]0;title\x07"


@pytest.fixture
def hostile(lab: FakeExporter) -> FakeExporter:
    """An exporter whose every word is evil."""
    name = f"{EVIL}\n{TITLE}"
    lab.labels, lab.reports = dict(lab.labels), deepcopy(lab.reports)  # each test's own
    lab.labels["jumpstarter.dev/name"] = name
    for report in lab.reports:
        if report.parent_uuid:
            report.labels["jumpstarter.dev/name"] += name
        report.labels["jumpstarter.dev/state"] = f"failed{EVIL}"
        report.labels["jumpstarter.dev/reason"] = name
        report.labels[f"x{name}"] = name
        report.description = name
        report.methods_description["on"] = name
    return lab


@pytest.mark.parametrize(
    "words",
    [
        ["jumpstarter", "devices"],
        ["jumpstarter", "devices", "-o", "name"],
        ["jumpstarter", "devices", "-o", "json"],
        ["jumpstarter", "devices", "-o", "yaml"],
        ["jumpstarter", "power", "on", "nothing"],
        ["jumpstarter", "__complete", "power", "on"],
        ["j"],
        ["j", "--help"],
        ["j", "nothing"],
    ],
    ids=" ".join,
)
def test_commands_print_lines_and_nothing_that_a_terminal_obeys(
    hostile: FakeExporter, command: Command, words: list[str]
) -> None:
    done = command(*words)
    assert "evil" in done.out + done.err or "__complete" in words
    assert all(line.isprintable() for line in (done.out + done.err).split("\n"))
    # A description may have lines, a name in a message has none of its own.
    assert not any(line.startswith("\\x1b") for line in done.err.splitlines())


def test_names_are_a_line_each(hostile: FakeExporter, command: Command) -> None:
    count = sum(bool(report.parent_uuid) for report in hostile.reports)
    assert len(command("jumpstarter", "devices", "-o", "name").out.splitlines()) == count


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_is_escaped_and_whole(hostile: FakeExporter, command: Command, form: str) -> None:
    out = command("jumpstarter", "devices", "-o", form).out
    data = json.loads(out) if form == "json" else yaml.safe_load(out)
    assert {row["reason"] for row in data} == {f"{EVIL}\n{TITLE}"}


@given(
    st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
)
def test_any_result_is_data_again(data: object) -> None:
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        out = io.StringIO()
        with redirect_stdout(out):
            write_data(data, form)
        assert all(line.isprintable() for line in out.getvalue().split("\n"))
        assert read(out.getvalue()) == data
