"""Apply the file at boot, or after it has changed: read it, store it, write files for other programs, remove secrets.

The order makes sure that after a power cut a secret is in the file, in the state, or in both. The files for other
programs are in /run, and are written again at the next boot. A second run with the same file changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jumpstarter_proto.yaml_files import BlankingError

from jumpstarter_image import fat, settings_store
from jumpstarter_image.host_system import HostSystem
from jumpstarter_image.kept import Kept
from jumpstarter_image.plan import PATHS, Command, PlannedFile, files_of, hostname_of, steps_after
from jumpstarter_image.retirement import writes_without, writes_without_in_comments
from jumpstarter_image.settings import Fault, read_site, secrets_to_remove
from jumpstarter_image.site_text import NotTextError, SiteText

__all__ = [
    "MAX_RUNS",
    "Outcome",
    "apply",
    "apply_until_unchanged",
    "is_unread",
    "read_file",
    "remove_secrets",
]

_APPLIED = "applied"
"""A file in /run that exists after the first run of this boot."""
_READ = "read"
"""A file in /run with the digest of the file that was read last."""
MAX_RUNS = 5
"""The maximum of consecutive runs. A file that changes continuously is read again when it is saved the next time."""
_OTHER_NAMES = ("jumpstarter.yaml.txt", "jumpstarter.yml", "jumpstarter.yml.txt", "jumpstarter.txt")


@dataclass
class Outcome:
    """What a run found and did."""

    kept: Kept = field(default_factory=Kept)
    hostname: str = ""
    faults: tuple[Fault, ...] = ()
    """Faults of the file. With faults the file was not used."""
    problems: list[str] = field(default_factory=list)
    """Sentences about all other problems."""
    is_booting: bool = False
    """Whether it was the first run of this boot."""
    changed: list[str] = field(default_factory=list)
    """Paths below the root that were written or removed."""


def read_file(host: HostSystem, before: Kept) -> tuple[SiteText | None, Kept, tuple[Fault, ...], list[str]]:
    """Read the file. Returns its text, the new settings, its faults, and problems such as a missing file."""
    try:
        with host.site_file.open("rb") as stream:
            raw = stream.read(1024 * 1024)
    except FileNotFoundError:
        return None, before, (), _missing(host)
    except OSError as error:
        return (
            None,
            before,
            (),
            [f"{host.site_file.name} cannot be read: {error.strerror}; check the card on a laptop"],
        )
    try:
        site = SiteText.decoded(raw)
    except NotTextError as error:
        line, column = error.place or (None, None)
        return None, before, (Fault(str(error), "", line, column),), []
    try:
        reading = read_site(site.text, before)
    except (
        Exception
    ) as error:  # a fault of ours must not keep the host from what it knows: its network, its keys
        # Without the exception's text, which may contain a secret of the file.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        what = (
            f"this version of Jumpstarter fails to read it ({where}); undo your last change, and report this"
        )
        return None, before, (Fault(what),), []
    return site, reading.kept, reading.faults, []


def _missing(host: HostSystem) -> list[str]:
    there = next((name for name in _OTHER_NAMES if (host.site_file.parent / name).exists()), None)
    if there is not None:
        return [f"there is {there}, which is not read; rename it to {host.site_file.name}"]
    return []


def apply_until_unchanged(host: HostSystem) -> Outcome:
    """Repeat `apply` until the file has not changed since it was read. The outcome has the problems of all runs.

    systemd does not watch the file while the unit runs, which takes seconds on a slow host. Without the repetition, a
    file that is saved then would be read only at the next boot.
    """
    problems: list[str] = []
    is_booting = False
    for _ in range(MAX_RUNS):
        digest = _digest(host)
        outcome = apply(host)
        problems += outcome.problems
        is_booting |= outcome.is_booting
        if _digest(host) == digest:
            break
    outcome.problems, outcome.is_booting = list(dict.fromkeys(problems)), is_booting
    marker = host.run_folder / _READ
    try:
        if _marked(marker) != digest:
            marker.write_text(digest, encoding="ascii")
    except OSError as error:
        outcome.problems.append(f"{marker} cannot be written: {error.strerror}")
    return outcome


def is_unread(host: HostSystem) -> bool:
    """Whether the file was saved after the last run has read it."""
    marked = _marked(host.run_folder / _READ)
    return bool(marked) and _digest(host) != marked


def _digest(host: HostSystem) -> str:
    """A digest of the file, or a constant if the file cannot be read."""
    try:
        with host.site_file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"error {error.errno}"


def _marked(marker: Path) -> str:
    try:
        return marker.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def apply(host: HostSystem) -> Outcome:
    """Do one run; see the module's docstring. A failed step becomes a sentence in the outcome; the others are done."""
    outcome = Outcome()
    before = Kept()
    try:
        before = settings_store.load(host)
    except settings_store.StateError as error:
        outcome.problems.append(str(error))
        before = error.salvaged
    site, outcome.kept, outcome.faults, problems = read_file(host, before)
    outcome.problems += problems
    is_kept = True
    try:
        settings_store.save(host, outcome.kept)
    except settings_store.StateError as error:
        is_kept = False
        outcome.problems.append(f"{error}; settings are used, but not kept over the next start")
    _make_real(host, outcome)
    if site is not None and is_kept:
        outcome.problems += remove_secrets(host, site, outcome.kept)
    return outcome


def _make_real(host: HostSystem, outcome: Outcome) -> None:
    kept = outcome.kept
    outcome.hostname = hostname_of(kept, host.machine_id())
    files = files_of(kept, outcome.hostname)
    marker = host.run_folder / _APPLIED
    is_booting = outcome.is_booting = not marker.exists()
    for path in PATHS:
        try:
            if _put(host.root / path, files.get(path)):
                outcome.changed.append(path)
        except OSError as error:
            outcome.problems.append(f"/{path} cannot be written: {error.strerror}")
    is_renamed = host.run("hostname").output.strip() != outcome.hostname
    steps: list[Command] = [("hostname", outcome.hostname)] if is_renamed else []
    wireless = _wireless(host)
    steps += steps_after(
        outcome.changed, kept, is_renamed=is_renamed, is_booting=is_booting, wireless=wireless
    )
    for step in steps:
        done = host.run(*step)
        if done.code != 0:
            said = " ".join(done.errors.split())[-200:]
            outcome.problems.append(f"`{' '.join(step)}` failed: {said or f'exit code {done.code}'}")
    try:
        if is_booting:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
    except OSError as error:
        outcome.problems.append(f"{marker} cannot be written: {error.strerror}")


def _wireless(host: HostSystem) -> list[str]:
    try:
        return sorted(
            folder.name
            for folder in (host.root / "sys/class/net").iterdir()
            if (folder / "wireless").exists() or (folder / "phy80211").exists()
        )
    except OSError:
        return []


def _put(path: Path, file: PlannedFile | None) -> bool:
    """Write the file completely or not at all. Returns whether it has changed."""
    if file is None:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True
    data = file.content.encode()
    try:
        if path.read_bytes() == data and path.stat().st_mode & 0o777 == file.mode:
            return False
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            os.fchmod(descriptor, file.mode)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return True


def remove_secrets(host: HostSystem, site: SiteText, kept: Kept) -> list[str]:
    """Remove stored secrets and used codes from the file. Returns a sentence for what failed."""
    problems: list[str] = []
    for path in secrets_to_remove(site.text, kept):
        name = ".".join(path)
        try:
            writes = writes_without(site, path)
            raw = site.encoded(site.text)
            site = SiteText.decoded(fat.change_in_place(host.site_file, raw, writes))
        except (BlankingError, NotTextError, yaml.YAMLError):
            problems.append(
                f"{name} is not needed in {host.site_file.name} any more, but cannot be removed automatically; "
                "remove it by hand"
            )
        except OSError as error:
            problems.append(f"{name} is not needed in {host.site_file.name} any more, but {_because(error)}")
    if kept.wifi is not None and kept.wifi.passphrase:
        try:
            writes = writes_without_in_comments(site, kept.wifi.passphrase)
            if writes:
                fat.change_in_place(host.site_file, site.encoded(site.text), writes)
        except OSError as error:
            problems.append(
                f"the Wi-Fi passphrase is in a comment of {host.site_file.name}, but {_because(error)}"
            )
    return problems


def _because(error: OSError) -> str:
    return f"the card cannot be written ({error.strerror}); check it on a laptop, or use another card"
