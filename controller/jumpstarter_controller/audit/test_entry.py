"""Whose an entry is, and what is in it that somebody else has said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from jumpstarter_controller.audit import AuditEntry, AuditQuery
from jumpstarter_controller.audit.audit_file import AuditFile
from jumpstarter_controller.audit.entry import entry_of, stranger_refused
from jumpstarter_controller.audit.wording import entries
from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Exporter,
    ExporterStatus,
    Host,
    Lease,
    LeaseCondition,
)

WHO = {"namespace": "lab", "exporter": "one", "client": "ann", "lease": "mine", "host": "pi4", "peer": "x"}
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


def test_an_entry_is_of_its_client_or_else_of_its_board_or_else_of_the_lab() -> None:
    entry, source = entry_of(5.0, "lease created", WHO)
    assert entry == AuditEntry(5.0, "lab", "one", "ann", "mine", "lease created")
    assert source == ("client", "lab", "ann")
    assert entry_of(5.0, "x", WHO | {"client": ""})[1] == ("exporter", "lab", "one")
    alone, source = entry_of(5.0, "host deleted", {"namespace": "lab", "host": "pi4"})
    assert (alone.what, alone.board, source) == ("host deleted: pi4", "", ("lab",))
    assert entry_of(5.0, "policy changed", {"policy": "ci"})[0].what == "policy changed: ci"


def test_what_a_stranger_says_is_one_line_without_tokens_and_no_clients_fault() -> None:
    said = {"namespace": "lab\n", "client": "ann\x1b[2J" + "x" * 1000, "peer": "ipv4:192.0.2.1:1"}
    entry, source = stranger_refused(5.0, ValueError(f"bad {TOKEN}\n" + "y" * 1000), said)
    assert source == ("strangers",)
    assert entry.what.startswith("was refused, at ipv4:192.0.2.1:1: bad [token]\\n")
    assert (entry.namespace, entry.client[:10]) == ("lab\\n", "ann\\x1b[2J"[:10])
    assert max(map(len, (entry.client, entry.what))) < 600


def test_a_boards_entries_are_its_leases_of_its_own_namespace(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    asked = AuditEntry(1.0, "lab", client="ann", lease="mine", what="asked")
    got = replace(asked, time=2.0, board="one", what="got")
    elsewhere = replace(asked, namespace="other", time=3.0, what="elsewhere")
    file.append([asked, got, elsewhere], 0.0)

    def found(**how: Any) -> list[str]:
        return [one.what for one in file.read(AuditQuery(**how))[0]]

    assert found(board="one") == ["asked", "got"]
    assert found(lease="mine") == ["asked", "got", "elsewhere"]
    assert found(lease="mine", namespace="other") == found(since=3.0) == ["elsewhere"]
    assert found(until=1.0) == ["asked"], "with those of that very moment"
    file.append([replace(elsewhere, what="behind it")], 0.0)
    assert found(limit=1) == ["behind it"], "of those of one moment the last"
    assert found(since=3.0) == ["elsewhere", "behind it"]
    assert file.read(AuditQuery(client="ann", limit=2))[1] == 2
    file.append([], 2.0)
    assert found() == ["got", "elsewhere", "behind it"], "what is exactly as old as may be is kept"
    file.close()


LEASE = Lease(
    namespace="lab", name="l", client="ann", selector="board=rpi4", exporter_name="one", duration=60.0
)
ONE = Exporter(namespace="lab", name="one", uid="1", devices=1, status=ExporterStatus.AVAILABLE)


def said(before: Any, after: Any) -> list[tuple[int, str]]:
    return [(level, sentence) for level, sentence, _ in entries(before, after)]


def test_what_becomes_of_an_offer() -> None:
    offered = replace(LEASE, exporter="one", offered=1.0)
    assert said(None, LEASE) == [(logging.INFO, "lease created: one board=rpi4, for 60 s")]
    assert said(LEASE, offered) == []
    assert said(offered, LEASE) == [(logging.INFO, "lease was not taken by one; it waits again")]
    ended = replace(LEASE, ended=2.0)
    assert said(offered, ended) == [(logging.INFO, "lease ended: ")]
    begun = replace(LEASE, exporter="one", begun=3.5, created=1.0)
    assert said(offered, begun) == [(logging.INFO, "lease ready on one after 2.5 s")]


def test_a_begin_that_moves_with_the_clock_is_no_news() -> None:
    later = replace(LEASE, begin_time=100.0)
    assert said(later, replace(later, begin_time=200.0)) == [
        (logging.INFO, "lease changed: it lasts 60 s now")
    ]
    begun = replace(later, exporter="one", begun=100.0)
    assert said(begun, replace(begun, begin_time=200.0, begun=200.0)) == []
    assert len(said(begun, replace(begun, end_time=500.0))) == 1
    forgotten = said(replace(begun, ended=1.0), None)
    assert forgotten == [(logging.DEBUG, "lease forgotten")]


def test_an_exporter_that_has_registered_and_not_connected_is_not_lost() -> None:
    away = replace(ONE, status=ExporterStatus.OFFLINE, status_message="it has not connected yet")
    assert said(replace(ONE, devices=0), replace(away, devices=0)) == []
    assert said(ONE, away) == [(logging.WARNING, "exporter lost: it has not connected yet")]
    assert said(ONE, replace(ONE, labels={"a": "b"})) == [
        (logging.INFO, "exporter registered with 1 devices")
    ]
    assert said(ONE, replace(ONE, status_message="other words")) == []
    waits = LeaseCondition(ConditionType.PENDING, True, "Offline")
    assert said(LEASE, replace(LEASE, conditions=(waits,))) == [(logging.INFO, "lease waits: Offline")]


def test_a_clients_token_that_it_has_renewed_itself_counts_for_a_day_more() -> None:
    ann = Client(namespace="lab", name="ann", uid="1")
    assert said(ann, replace(ann, uid="2", previous_uid="1")) == [
        (logging.INFO, "client gets a new token, the old one stays valid for one day")
    ]
    assert said(ann, replace(ann, uid="2", previous_uid="0")) == [
        (logging.INFO, "client gets a new token, the old ones are no longer valid")
    ]
    assert said(replace(ann, enabled=False), ann) == [(logging.INFO, "client enabled")]
    host = Host(namespace="lab", name="pi4", labels={"b": "1", "a": "2"}, may_label=("x", "y"))
    assert said(host, replace(host, labels={})) == [
        (logging.INFO, "host's boards have the labels of their own only")
    ]
    assert said(replace(host, labels={}, may_label=()), host) == [
        (logging.INFO, "host's boards have the labels a=2,b=1"),
        (logging.INFO, "host may set the labels x, y"),
    ]
