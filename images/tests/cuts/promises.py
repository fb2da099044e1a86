"""Check what a host guarantees about its card after a power cut. No I/O: `found` has read the files.

Whatever is said here of a time means the log: what had been seen from outside when it was so long is in what came
before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml
from jumpstarter_image.fat import STATUS_BYTES
from jumpstarter_image.kept import Kept, code_digest
from jumpstarter_image.site_text import NotTextError, SiteText
from jumpstarter_proto.yaml_files import load_text

from cuts.disks import Partition, TableError, partitions
from cuts.story import Save, Story

__all__ = ["IDENTITY", "NONCE", "STATE", "Found", "Moment", "broken_promises", "kept_of", "saved"]

STATE = "jumpstarter-image/state.json"
IDENTITY = "jumpstarter/host.yaml"
NONCE = "jumpstarter/pairing.json"


@dataclass
class Found:
    """The files of one disk."""

    table: bytes
    site: bytes | str
    """jumpstarter.yaml; a sentence if it cannot be read."""
    status: bytes | str | None
    """jumpstarter-status.txt; None if there is none."""
    machine_id: bytes | None = None
    """Its content in the overlay of /etc."""
    host_keys: Mapping[str, bytes] = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)
    """Below /var/lib: what the services keep, by path."""
    emptied: tuple[str, ...] = ()
    """Empty files that are not empty at the end of the recording."""
    is_read: bool = False
    """Whether the data partition's files are here."""


@dataclass(frozen=True)
class Moment:
    """The moment of the cut: the number of completed requests in the log."""

    point: int
    marks: Mapping[str, int]

    def is_after(self, mark: str) -> bool:
        """Whether this event was seen before the cut; False for an event that never happened."""
        return mark in self.marks and self.point >= self.marks[mark]


def broken_promises(story: Story, moment: Moment, found: Found, card: list[Partition]) -> Iterator[str]:
    """A sentence for each; none if the host is itself. ``card``: its partitions as they were at first."""
    yield from _table(found, card)
    yield from _site(story, moment, found)
    yield from _status(moment, found)
    yield from _secrets(story, moment, found)
    yield from _identity(story, moment, found)
    yield from _machine_id(story, moment, found)
    yield from _host_keys(story, moment, found)
    yield from _files(found)


def _table(found: Found, card: list[Partition]) -> Iterator[str]:
    try:
        now = partitions(found.table)
    except TableError as error:
        yield f"the partition table: {error}"
        return
    if now[:2] != card[:2] or now[2].begin != card[2].begin or now[2].size < card[2].size:
        yield f"the partition table has other partitions: {now}, before {card}"


def saved(story: Story, moment: Moment) -> Save | None:
    """The last file that a person has saved; None during a save, because the editor is then responsible."""
    last: Save | None = None
    for save in story.saves:
        if not save.begun or moment.is_after(save.done):
            last = save
        elif moment.is_after(save.begun):
            return None
    return last


def data_of(text: str) -> dict[str, Any] | None:
    """The content of a jumpstarter.yaml; None if it is not valid YAML."""
    try:
        said = load_text(text)
    except yaml.YAMLError:
        return None
    return said if isinstance(said, dict) else {} if said is None else None


def _without(data: Mapping[str, Any], *, code: bool, passphrase: bool) -> dict[str, Any]:
    left = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    if code:
        left.pop("pairingCode", None)
    if passphrase and isinstance(left.get("wifi"), dict):
        left["wifi"].pop("passphrase", None)
    return left


def _text(raw: bytes | str | None) -> str | None:
    try:
        return SiteText.decoded(raw).text if isinstance(raw, bytes) else None
    except NotTextError:
        return None


def _site(story: Story, moment: Moment, found: Found) -> Iterator[str]:
    save = saved(story, moment)
    if save is None:
        return
    if isinstance(found.site, str):
        yield f"jumpstarter.yaml cannot be read: {found.site}"
        return
    expected = data_of(save.text)
    assert expected is not None, "the recording's own file is valid"
    text = _text(found.site)
    said = None if text is None else data_of(text)
    choices = [
        _without(expected, code=code, passphrase=passphrase)
        for code in (False, True)
        for passphrase in (False, True)
    ]
    if said not in choices:
        yield f"jumpstarter.yaml says neither what was written nor that without a secret: {said}"
    elif len(found.site) != len(save.text.encode()):
        yield f"jumpstarter.yaml has {len(found.site)} bytes in place of {len(save.text.encode())}"


def _status(moment: Moment, found: Found) -> Iterator[str]:
    if isinstance(found.status, str):
        yield f"jumpstarter-status.txt cannot be read: {found.status}"
    elif found.status is not None and len(found.status) not in (0, STATUS_BYTES):
        yield f"jumpstarter-status.txt has {len(found.status)} bytes in place of {STATUS_BYTES}"
    elif not found.status and moment.is_after("status"):
        yield "jumpstarter-status.txt is gone or empty"


def kept_of(found: Found) -> Kept | None:
    """The stored settings of the host; None if they cannot be read."""
    raw = found.state.get(STATE)
    if raw is None:
        return Kept()
    try:
        return msgspec.json.decode(raw, type=Kept)
    except msgspec.DecodeError:
        return None


def _secrets(story: Story, moment: Moment, found: Found) -> Iterator[str]:
    kept = kept_of(found)
    if kept is None:
        yield f"the host's state cannot be read: {found.state[STATE][:40]!r}"
        return
    if kept.hostname not in ("", *story.hostnames):
        yield f"the host's state has the name {kept.hostname!r}"
    if kept.wifi is not None and kept.wifi.passphrase not in story.passphrases:
        yield "the host's state has another passphrase"
    if kept.refusal:
        yield f"the host has recorded that its code was refused: {kept.refusal}"
    is_used = code_digest(story.code) in kept.used_codes
    if is_used and IDENTITY not in found.state:
        yield "the state says that the code was used, and there is no identity"
    for mark, name in _KEPT.items():
        if moment.is_after(mark) and not _has(name, kept, story):
            yield f"the host's state has lost {name}, which it had ({mark})"
    save = saved(story, moment)
    if save is None:
        return
    text = _text(found.site)
    said = (None if text is None else data_of(text)) or {}
    if said.get("pairingCode") != story.code and kept.pairing_code != story.code and not is_used:
        yield "the pairing code is neither in the file, nor in the state, nor was it used"
    written = (data_of(save.text) or {}).get("wifi", {}).get("passphrase")
    wifi = said.get("wifi")
    left = wifi.get("passphrase") if isinstance(wifi, Mapping) else None
    if written and left != written and (kept.wifi is None or kept.wifi.passphrase != written):
        yield "the passphrase is neither in the file nor in the state"


_KEPT = {
    "applied": "its first name or network",
    "enrolled": "the used code",
    "second passphrase kept": "its second passphrase",
    "second name kept": "its second name",
}


def _has(name: str, kept: Kept, story: Story) -> bool:
    checks: dict[str, Callable[[], bool]] = {
        "its first name or network": lambda: bool(kept.hostname and kept.wifi),
        "the used code": lambda: code_digest(story.code) in kept.used_codes,
        "its second passphrase": lambda: bool(kept.wifi and kept.wifi.passphrase == story.passphrases[-1]),
        "its second name": lambda: kept.hostname == story.hostnames[-1],
    }
    return checks[name]()


def _identity(story: Story, moment: Moment, found: Found) -> Iterator[str]:
    identity = found.state.get(IDENTITY)
    if identity is not None and identity.decode(errors="replace") != story.identity:
        yield f"the host's identity is not whole: {len(identity)} bytes"
    if identity is None and moment.is_after("enrolled"):
        yield "the host was enrolled, and has no identity"
    if identity is None and moment.is_after("code used"):
        try:
            is_there = isinstance(json.loads(found.state.get(NONCE, b""))["nonce"], str)
        except (ValueError, KeyError, TypeError):
            is_there = False
        if not is_there:
            yield "the code was used, and neither the identity nor the nonce is there"


def _machine_id(story: Story, moment: Moment, found: Found) -> Iterator[str]:
    said = None if found.machine_id is None else found.machine_id.decode(errors="replace").strip()
    if said not in (None, "", "uninitialized", story.machine_id):
        yield f"the machine's id is {said!r}"
    if said != story.machine_id and moment.is_after("running"):
        yield f"the machine's id is lost: {said!r}"


def _host_keys(story: Story, moment: Moment, found: Found) -> Iterator[str]:
    for name, expected in story.host_keys.items():
        data = found.host_keys.get(name)
        if data == expected.encode():
            continue
        if data:
            yield f"sshd's {name} is neither the one that was made nor empty"
        elif data == b"" and found.host_keys.get(name.removesuffix(".pub")):
            yield f"sshd's {name} is empty, and ssh-keygen -A makes none beside a private key"
        elif moment.is_after("sshd"):
            yield f"sshd's {name}, which it had shown, is {'gone' if data is None else 'empty'}"


def _files(found: Found) -> Iterator[str]:
    for path, data in found.state.items():
        if not path.startswith("jumpstarter/") or re.search(r"/\.[^/]*$", path):
            continue  # a file that was being written when the power failed has a name that begins with a dot
        try:
            if path.endswith(".json"):
                json.loads(data)
            elif path.endswith(".yaml"):
                is_whole = isinstance(yaml.safe_load(data), dict)
                assert is_whole
        except (ValueError, AssertionError, yaml.YAMLError):
            yield f"/var/lib/{path} is damaged: {data[:40]!r}"
