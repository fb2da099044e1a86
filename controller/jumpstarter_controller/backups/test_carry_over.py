"""What of a backup is restored over a lab that has gone on since: what the lab says, but nobody who was kept out."""

from __future__ import annotations

from msgspec.structs import replace

from jumpstarter_controller.backups.carry_over import carry_over, dropped_codes, valid_again
from jumpstarter_controller.lab import (
    Client,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Key,
    LabState,
    Lease,
    PairingCode,
    Policy,
    Record,
    ReportedDevice,
    UnavailableReason,
)

ANN = Client(namespace="lab", name="ann", uid="1", created=1.0, labels={"team": "a"}, username="dex:ann")
ONE = Exporter(
    namespace="lab",
    name="one",
    uid="2",
    created=2.0,
    labels={"board": "rpi4"},
    devices=3,
    status=ExporterStatus.AVAILABLE,
    host="pi4",
    said={"board": "rpi4"},
    answers=True,
    lease="mine",
)
PI4 = Host(namespace="lab", name="pi4", uid="3", created=3.0, labels={"site": "a"}, may_label=("host",))
RULES = Policy(namespace="lab", name="p", exporters="board")
DEVICES = ExporterDevices(namespace="lab", name="one", devices=(ReportedDevice(path="power"),))
MINE = Lease(namespace="lab", name="mine", client="ann", exporter="one", begun=5.0, duration=60.0)
CODE = PairingCode(namespace="lab", name="c", kind="Exporter", subject="two", digest="d", expires=9e9)
DRAIN = Drain(namespace="", name="lab", reason="move")
ALL: tuple[Record, ...] = (ANN, ONE, PI4, RULES, DEVICES, MINE)


def view(*records: Record) -> LabState:
    found = LabState()
    for record in records:
        found.set(type(record), record.key, record)
    return found


def without(*gone: Record) -> list[Record]:
    return [one for one in ALL if one not in gone]


def test_of_a_lab_that_is_as_it_was_nothing_is_changed() -> None:
    found = carry_over(view(*ALL), view(*ALL))
    assert (found.changes, found.sentences) == ({}, [])
    assert valid_again(view(*ALL), view(*ALL)) == []


def test_what_the_lab_says_is_as_in_the_backup_and_who_somebody_is_as_now() -> None:
    ann = replace(
        ANN, uid="9", labels={}, created=7.0, previous_uid="1", previous_uid_until=8.0, username="dex:eve"
    )
    one = replace(
        ONE,
        uid="8",
        labels={},
        said={},
        host="",
        created=7.0,
        enabled=False,
        status=ExporterStatus.OFFLINE,
        reasons=(UnavailableReason("x"),),
        lease="",
    )
    pi4 = replace(PI4, uid="7", labels={}, may_label=(), created=7.0)
    devices = replace(DEVICES, omitted=5)
    found = carry_over(view(*ALL), view(ann, one, pi4, devices, replace(RULES, exporters=""), MINE))
    assert found.changes == {
        (Client, ANN.key): replace(ann, labels=ANN.labels, created=1.0),
        (Exporter, ONE.key): replace(
            one, labels=ONE.labels, said=ONE.said, host="pi4", created=2.0, enabled=False
        ),
        (Host, PI4.key): replace(PI4, uid="7"),
        (ExporterDevices, ONE.key): devices,
    }
    assert sorted(sentence.partition(" after the backup")[0] for sentence in found.sentences) == [
        "clients that got new tokens",
        "exporters that got new tokens",
        "exporters that were disabled",
        "hosts that got new tokens",
    ]
    again = valid_again(view(*ALL), view(ann, one, pi4))
    assert sorted(sentence.partition(" after the backup")[0] for sentence in again) == [
        "clients that were given a new token",
        "exporters that were disabled",
        "exporters that were given a new token",
        "hosts that were given a new token",
    ]


def test_who_was_deleted_is_there_again_and_nobody_is_them() -> None:
    found = carry_over(view(*without(MINE)), view(RULES))
    ann, one, pi4 = (
        found.changes.pop(ref) for ref in ((Client, ANN.key), (Exporter, ONE.key), (Host, PI4.key))
    )
    assert isinstance(ann, Client)
    assert isinstance(one, Exporter)
    assert isinstance(pi4, Host)
    assert {ann.uid, one.uid, pi4.uid}.isdisjoint({"1", "2", "3", ""})
    assert replace(ann, uid="1") == replace(ANN, enabled=False), "another issuer's user could come back"
    assert (one.labels, one.said, one.host, one.created) == (ONE.labels, ONE.said, "pi4", 2.0)
    assert (one.status, one.devices, one.lease, one.answers, one.enabled) == (
        ExporterStatus.OFFLINE,
        0,
        "",
        False,
        True,
    )
    assert replace(pi4, uid="3") == PI4
    assert found.changes == {}
    said = " ".join(found.sentences)
    assert "clients that were deleted after the backup are there again" in said
    assert "of these, users of another issuer are disabled: lab/ann" in said
    assert len(valid_again(view(*ALL), view(RULES))) == 3


def test_who_was_disabled_in_either_stays_out() -> None:
    off = replace(ANN, enabled=False)
    for backup, present in ((off, ANN), (ANN, off), (off, off)):
        found = carry_over(view(backup), view(present))
        restored = found.changes.get((Client, ANN.key), backup)
        assert isinstance(restored, Client)
        assert not restored.enabled
        assert len(found.sentences) == (backup is ANN)
    gone = carry_over(view(replace(off, username="")), view()).changes[Client, ANN.key]
    assert isinstance(gone, Client)
    assert not gone.enabled


def test_leases_are_as_they_are_now_and_end_where_they_rest_on_nothing() -> None:
    ended = replace(MINE, ended=9.0)
    assert carry_over(view(*ALL), view(*without(MINE), ended)).changes == {(Lease, MINE.key): ended}
    assert carry_over(view(*ALL), view(*without(MINE))).changes == {(Lease, MINE.key): None}
    old = replace(ended, name="old")
    assert carry_over(view(*ALL, old), view(*ALL)).changes == {}, "one that has ended harms nobody"
    two, bob = replace(ONE, name="two", uid="5"), replace(ANN, name="bob", uid="6")
    of_two, of_bob = replace(MINE, name="of-two", exporter="two"), replace(MINE, name="of-bob", client="bob")
    found = carry_over(view(*ALL), view(*ALL, two, bob, of_two, of_bob, replace(DEVICES, name="two")))
    assert found.changes == {(Lease, of_two.key): of_two, (Lease, of_bob.key): of_bob}
    assert found.sentences[-1].endswith("made after the backup: lab/of-bob, lab/of-two")
    assert sum("that were made after the backup are gone" in sentence for sentence in found.sentences) == 2


def test_codes_stay_away_and_whether_the_lab_is_drained_is_as_now() -> None:
    used = replace(CODE, name="used", redeemer="r", subject="three")
    found = dropped_codes(view(CODE, used))
    assert found.changes == {(PairingCode, CODE.key): None, (PairingCode, used.key): None}
    assert found.sentences == ["pairing codes are not restored; make new ones for exporter lab/two"]
    assert dropped_codes(view(used)).sentences == []
    ref = (Drain, Key("", "lab"))
    assert carry_over(view(), view(DRAIN)).changes == {ref: DRAIN}
    assert carry_over(view(DRAIN), view()).changes == {ref: None}
    assert carry_over(view(DRAIN), view(DRAIN)).changes == {}
