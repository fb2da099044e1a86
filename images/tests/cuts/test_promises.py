"""Each promise is missed where it is broken, and only there."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import msgspec
import pytest
from jumpstarter_image.fat import STATUS_BYTES
from jumpstarter_image.kept import Kept, Wifi, code_digest

from cuts.disks import partitions
from cuts.promises import IDENTITY, NONCE, STATE, Found, Moment, broken_promises
from cuts.story import Save, Story
from cuts.write_log import FLUSH, WriteLog, packed

CODE = "HOST-ABCD-EFGH-JKLM"
FIRST, SECOND = "the first passphrase", "quite another one"
IDENTITY_TEXT = "kind: HostIdentity\nmetadata: {name: lab-one}\n"
MACHINE_ID = "0123456789abcdef" * 2
NAMES = ["power", "applied", "code used", "enrolled", "running", "sshd", "status"]
NAMES += ["save begun", "save written", "second passphrase kept", "second name kept"]
MARKS = {name: 10 * number for number, name in enumerate(NAMES)}


def site(passphrase: str = FIRST, code: str = CODE) -> str:
    return (
        f"hostname: lab-one\npairingCode: {code}\n"
        f"wifi:\n  country: DE\n  ssid: Lab\n  passphrase: {passphrase}\n"
    )


STORY = Story(
    saves=[Save(site()), Save(site(SECOND), "save begun", "save written")],
    code=CODE,
    hostnames=["lab-one", "lab-two"],
    passphrases=[FIRST, SECOND],
    machine_id=MACHINE_ID,
    identity=IDENTITY_TEXT,
    host_keys={"ssh_host_ed25519_key": "private", "ssh_host_ed25519_key.pub": "public"},
)
ENTRIES = [(4096, 8192), (12288, 8192), (20480, 8192)]


def table(*entries: tuple[int, int]) -> bytes:
    packed_entries = b"".join(struct.pack("<8xII", begin // 512, size // 512) for begin, size in entries)
    return bytes(446) + packed_entries.ljust(64, b"\0") + b"\x55\xaa"


CARD = partitions(table(*ENTRIES))


def blanked(text: str, *lines: str) -> bytes:
    for line in lines:
        text = text.replace(line, " " * len(line))
    return text.encode()


def state(**fields: Any) -> bytes:
    known: dict[str, Any] = {"hostname": "lab-one", "wifi": Wifi("Lab", "DE", FIRST), "pairing_code": CODE}
    return msgspec.json.encode(Kept(**{**known, **fields}))


USED = {"pairing_code": "", "used_codes": (code_digest(CODE),)}
AT_FIRST = Found(table=table(*ENTRIES), site=site().encode(), status=None, is_read=True)
APPLIED = dataclasses.replace(AT_FIRST, state={STATE: state()})
ENROLLED = dataclasses.replace(
    AT_FIRST,
    site=blanked(site(), f"passphrase: {FIRST}", f"pairingCode: {CODE}"),
    status=b"\n" * STATUS_BYTES,
    machine_id=f"{MACHINE_ID}\n".encode(),
    host_keys={name: text.encode() for name, text in STORY.host_keys.items()},
    state={STATE: state(**USED), IDENTITY: IDENTITY_TEXT.encode(), "jumpstarter/uuids.json": b"{}"},
)
CHANGED = dataclasses.replace(
    ENROLLED,
    site=blanked(site(SECOND), f"passphrase: {SECOND}", f"pairingCode: {CODE}"),
    state={
        **ENROLLED.state,
        STATE: state(**USED, hostname="lab-two", wifi=Wifi("Lab", "DE", SECOND)),
    },
)


def faults(found: Found, mark: str, offset: int = 0) -> list[str]:
    return list(broken_promises(STORY, Moment(MARKS[mark] + offset, MARKS), found, CARD))


@pytest.mark.parametrize(
    ("found", "mark", "offset"),
    [
        (AT_FIRST, "power", 0),
        (APPLIED, "power", 5),
        (APPLIED, "applied", 0),
        (dataclasses.replace(APPLIED, site=blanked(site(), f"passphrase: {FIRST}")), "applied", 0),
        (
            dataclasses.replace(APPLIED, state={STATE: state(), NONCE: b'{"nonce": "1", "code": "2"}'}),
            "code used",
            0,
        ),
        (ENROLLED, "applied", 5),
        (ENROLLED, "enrolled", 0),
        (ENROLLED, "status", 0),
        # The system has committed neither its id nor its keys yet.
        (dataclasses.replace(ENROLLED, machine_id=b"uninitialized\n", host_keys={}), "enrolled", 0),
        (
            dataclasses.replace(ENROLLED, machine_id=b"", host_keys={"ssh_host_ed25519_key": b""}),
            "enrolled",
            5,
        ),
        # While somebody saves the file, that may be anything.
        (dataclasses.replace(ENROLLED, site=b"host"), "save begun", 0),
        (dataclasses.replace(ENROLLED, site=site(SECOND).encode()), "save written", 0),
        (CHANGED, "second passphrase kept", 0),
        (CHANGED, "second name kept", 100),
        # The partition has grown.
        (dataclasses.replace(ENROLLED, table=table(*ENTRIES[:2], (20480, 81920))), "status", 0),
        # Half a file, that was being written, beside the whole one.
        (
            dataclasses.replace(ENROLLED, state={**ENROLLED.state, "jumpstarter/.uuids.json.12": b"{"}),
            "status",
            0,
        ),
    ],
)
def test_what_a_power_cut_may_leave_is_not_a_fault(found: Found, mark: str, offset: int) -> None:
    assert faults(found, mark, offset) == []


def changed(found: Found, **fields: Any) -> Found:
    return dataclasses.replace(found, **fields)


def with_state(found: Found, path: str, data: bytes | None) -> Found:
    left = {name: known for name, known in found.state.items() if name != path}
    return dataclasses.replace(found, state=left if data is None else {**left, path: data})


def with_key(name: str, data: bytes | None) -> Found:
    keys = {**ENROLLED.host_keys, name: data}
    return changed(ENROLLED, host_keys={known: text for known, text in keys.items() if text is not None})


KEY = "ssh_host_ed25519_key"


@pytest.mark.parametrize(
    ("found", "mark", "message"),
    [
        (changed(AT_FIRST, table=bytes(512)), "power", "not a partition table"),
        (changed(AT_FIRST, table=table(*ENTRIES[:2], (28672, 8192))), "power", "has other partitions"),
        (changed(AT_FIRST, table=table(*ENTRIES[:2], (20480, 4096))), "power", "has other partitions"),
        (changed(AT_FIRST, site="not found"), "power", "jumpstarter.yaml cannot be read: not found"),
        (changed(AT_FIRST, site=b"hostname: lab-one\n"), "power", "says neither what was written nor that"),
        (changed(AT_FIRST, site=b"a: b: c"), "power", "says neither"),
        (changed(AT_FIRST, site=site().encode() + b"\n"), "power", "bytes in place of"),
        (
            changed(AT_FIRST, site=blanked(site(), f"pairingCode: {CODE}")),
            "power",
            "code is neither in the file",
        ),
        (
            changed(AT_FIRST, site=blanked(site(), f"passphrase: {FIRST}")),
            "power",
            "passphrase is neither in the file",
        ),
        (changed(ENROLLED, site=site(SECOND).encode()), "save begun", ""),
        (
            changed(ENROLLED, site=blanked(site(SECOND), f"passphrase: {SECOND}")),
            "save written",
            "passphrase is neither",
        ),
        (changed(ENROLLED, status="bad chain"), "enrolled", "jumpstarter-status.txt cannot be read"),
        (changed(ENROLLED, status=b"half"), "enrolled", "has 4 bytes in place of"),
        (changed(ENROLLED, status=None), "status", "is gone or empty"),
        (changed(ENROLLED, status=b""), "status", "is gone or empty"),
        (with_state(APPLIED, STATE, b"{"), "applied", "the host's state cannot be read"),
        (with_state(APPLIED, STATE, None), "applied", "has lost its first name or network"),
        (with_state(APPLIED, STATE, state(hostname="other")), "applied", "has the name 'other'"),
        (with_state(APPLIED, STATE, state(wifi=Wifi("Lab", "DE", "x"))), "applied", "has another passphrase"),
        (with_state(ENROLLED, STATE, state()), "enrolled", "has lost the used code"),
        (
            with_state(CHANGED, STATE, ENROLLED.state[STATE]),
            "second passphrase kept",
            "lost its second passphrase",
        ),
        (
            with_state(CHANGED, STATE, state(**USED, wifi=Wifi("Lab", "DE", SECOND))),
            "second name kept",
            "second name",
        ),
        (with_state(ENROLLED, IDENTITY, None), "applied", "the code was used, and there is no identity"),
        (with_state(ENROLLED, IDENTITY, b""), "applied", "identity is not whole: 0 bytes"),
        (with_state(ENROLLED, IDENTITY, None), "enrolled", "was enrolled, and has no identity"),
        (with_state(APPLIED, NONCE, None), "code used", "neither the identity nor the nonce"),
        (with_state(APPLIED, NONCE, b'{"nonce"'), "code used", "neither the identity nor the nonce"),
        (changed(ENROLLED, machine_id=b"fedcba"), "enrolled", "the machine's id is 'fedcba'"),
        (changed(ENROLLED, machine_id=b""), "running", "the machine's id is lost"),
        (with_key(KEY, b"priv"), "enrolled", "neither the one that was made nor empty"),
        (with_key(f"{KEY}.pub", b""), "enrolled", "is empty, and ssh-keygen -A makes none"),
        (with_key(KEY, None), "sshd", "which it had shown, is gone"),
        (with_key(KEY, b""), "sshd", "which it had shown, is empty"),
        (
            with_state(ENROLLED, "jumpstarter/uuids.json", b""),
            "enrolled",
            "/var/lib/jumpstarter/uuids.json is damaged",
        ),
        (
            with_state(ENROLLED, "jumpstarter/boards/one.yaml", b""),
            "enrolled",
            "boards/one.yaml is damaged",
        ),
    ],
)
def test_what_it_may_not_leave_is_one(found: Found, mark: str, message: str) -> None:
    said = faults(found, mark)
    assert any(message in one for one in said) if message else not said, said


def test_a_host_that_takes_its_code_for_refused_has_lost_something() -> None:
    from jumpstarter_image.kept import PairingAttempt

    kept = msgspec.json.decode(state(), type=Kept)
    refused = msgspec.structs.replace(kept, attempt=PairingAttempt(kept.enrolment_digest, "", "it was used"))
    found = with_state(APPLIED, STATE, msgspec.json.encode(refused))
    assert "the host has recorded that its code was refused: it was used" in faults(found, "applied")


def test_marks_are_counted_in_entries() -> None:
    log = WriteLog(memoryview(packed([(0, 0, bytes(1024)), (0, FLUSH, b""), (4, 0, bytes(512))])))
    story = Story(marks={"power": 0, "flushed": 2560, "end": 3584})
    assert story.counted(log) == {"power": 0, "flushed": 2, "end": 3}


def test_a_story_is_read_as_it_was_written(tmp_path: Any) -> None:
    path = tmp_path / "story.json"
    STORY.write(path)
    assert Story.read(path) == STORY
