"""What a peer wrote does nothing to the terminal of who reads it."""

from __future__ import annotations

import pytest
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.cli import entry
from jumpstarter_client.cli.options import Options
from jumpstarter_client.cli.table import table
from jumpstarter_client.leasing.notices import to_terminal

EVIL = "evil\x1b[2J\rname\u202e"
SHOWN = "evil\\x1b[2J\\rname\\u202e"


def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    entry._explain(RpcError(StatusCode.UNKNOWN, f"no {EVIL}; these are:\n  one\n  two"), Options())
    assert capsys.readouterr().err == f"error: no {SHOWN}; these are:\n  one\n  two\n"


def test_tables() -> None:
    lines = table(("NAME", "REASON"), [(EVIL, "one\ntwo")]).splitlines()
    assert lines[1:] == [f"{SHOWN}  one\\ntwo"]


def test_notices(capsys: pytest.CaptureFixture[str]) -> None:
    to_terminal(f"Waiting: {EVIL}")
    assert capsys.readouterr().err == f"Waiting: {SHOWN}\n"
