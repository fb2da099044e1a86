"""Enrol this host with its controller: with the pairing code in the file, or with the controller on its own card.

Run it again until nothing is left to do. It survives a power cut at any moment: before it uses a code, it stores the
code and the host's identity of that time. So it can tell whether a refused code was already used by this host itself.
"""

from __future__ import annotations

import enum
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.private_files import MAX_FILE_BYTES
from jumpstarter_proto.regular_files import open_regular
from jumpstarter_proto.yaml_files import load_text

from jumpstarter_image import settings_store
from jumpstarter_image.apply import read_file, remove_secrets
from jumpstarter_image.host_system import Done, HostSystem
from jumpstarter_image.kept import Kept
from jumpstarter_image.plan import ENROL_MARKER, hostname_of, own_endpoint

__all__ = [
    "CLOCK_SECONDS",
    "ENROL_SECONDS",
    "Enrolled",
    "EnrolmentResult",
    "enrol",
    "enrolled_as",
    "is_time_known",
    "last_trouble",
]

_TROUBLE = "enrolment"
CLOCK_SECONDS = 180.0
"""Seconds after the boot from which the card of a controller uses its own clock, if no time server answers."""
SYNC_SECONDS = 20
"""Seconds that one attempt waits for a time server: chronyd needs some seconds after the network is up."""
ENROL_SECONDS = 300.0
"""The time limit of one attempt. On a slow host that is booting, the exporter alone needs a minute."""
CONTROLLER_USER = "jumpstarter-controller"
CONTROLLER_DATA = "var/lib/jumpstarter-controller"


class EnrolmentResult(enum.Enum):
    """The result of a run."""

    NOTHING_TO_DO = "nothing to do"
    ENROLLED = "enrolled"
    REFUSED = "refused"
    AGAIN = "to be tried again"


@dataclass(frozen=True)
class Enrolled:
    """The identity of this host, and its controller."""

    name: str
    endpoint: str


def enrol(host: HostSystem) -> tuple[EnrolmentResult, str]:
    """Make one attempt. Returns the result and the reason.

    OSError: /run cannot be written.
    """
    try:
        kept = settings_store.load(host)
        if kept.controller:
            step, said = _enrol_at_own_controller(host, kept)
        elif kept.is_to_enrol:
            step, said = _enrol_by_code(host, kept)
        else:
            step, said = EnrolmentResult.NOTHING_TO_DO, ""
    except settings_store.StateError as error:
        # If the host cannot store that it has used a code, the code would be lost.
        step, said = EnrolmentResult.AGAIN, str(error)
    _note(host, said if step is EnrolmentResult.AGAIN else "")
    if step in (EnrolmentResult.ENROLLED, EnrolmentResult.REFUSED):
        (host.root / ENROL_MARKER).unlink(missing_ok=True)
    if step is EnrolmentResult.ENROLLED:
        host.run("systemctl", "--no-block", "reload-or-restart", "jumpstarter-exporter.service")
    return step, said


def _enrol_by_code(host: HostSystem, kept: Kept) -> tuple[EnrolmentResult, str]:
    if not _wait_for_time(host):
        return EnrolmentResult.AGAIN, "the time is not known yet, without which no certificate can be checked"
    kept = kept.with_attempt(_identity(host))
    settings_store.save(host, kept)
    command = ["jumpstarter-exporter", "enrol", kept.endpoint, "--replace"]
    if kept.fingerprint:
        command += ["--tls-fingerprint", kept.fingerprint]
    done = host.run(*command, given=f"{kept.pairing_code}\n", timeout=ENROL_SECONDS)
    reason = _reason(done.errors)
    is_ours = kept.attempt is not None and kept.attempt.identity not in ("", _identity(host))
    if done.code == ExitCode.OK or (done.code == ExitCode.DENIED and is_ours and _is_at(host, kept.endpoint)):
        kept = kept.with_used_code()
        settings_store.save(host, kept)
        _clean(host, kept)
        return EnrolmentResult.ENROLLED, ""
    if done.code == ExitCode.DENIED:
        settings_store.save(host, kept.with_refused_code(reason))
        return EnrolmentResult.REFUSED, reason
    return EnrolmentResult.AGAIN, reason


def _enrol_at_own_controller(host: HostSystem, kept: Kept) -> tuple[EnrolmentResult, str]:
    hostname = hostname_of(kept, host.machine_id())
    endpoint = own_endpoint(kept, hostname)
    granted = [word for key in sorted(kept.labels) for word in ("--may-label", key)]
    if _is_at(host, endpoint):
        done = _admin(host, "host", "change", hostname, *granted) if granted else Done(0, "", "")
        return (
            (EnrolmentResult.NOTHING_TO_DO, "")
            if done.code == 0
            else (EnrolmentResult.AGAIN, _reason(done.errors))
        )
    if not _wait_for_time(host) and time.clock_gettime(time.CLOCK_BOOTTIME) < CLOCK_SECONDS:
        return EnrolmentResult.AGAIN, "the time is not known yet"
    offered = _admin(host, "pair", "host", hostname, *granted, "-o", "json")
    if offered.code != 0:
        offered = _admin(host, "pair", "host", hostname, "--renew", "-o", "json")
    if offered.code != 0:
        return EnrolmentResult.AGAIN, _reason(offered.errors)
    try:
        offer = parse_json(offered.output)
        fingerprint, code = str(offer["fingerprint"]), str(offer["code"])
    except (ValueError, LookupError, TypeError):
        return EnrolmentResult.AGAIN, "the controller of this card printed no pairing code"
    command = [
        "jumpstarter-exporter",
        "enrol",
        endpoint,
        "--replace",
        "--tls-fingerprint",
        fingerprint,
    ]
    done = host.run(*command, given=f"{code}\n", timeout=ENROL_SECONDS)
    return (
        (EnrolmentResult.ENROLLED, "")
        if done.code == ExitCode.OK
        else (EnrolmentResult.AGAIN, _reason(done.errors))
    )


def _admin(host: HostSystem, *words: str) -> Done:
    """Run `jumpstarter-controller admin` as the owner of the controller's files."""
    user = ("--reuid", CONTROLLER_USER, "--regid", CONTROLLER_USER, "--init-groups", "--")
    data = str(host.root / CONTROLLER_DATA)
    return host.run("setpriv", *user, "jumpstarter-controller", "admin", *words, "--data", data)


def _clean(host: HostSystem, kept: Kept) -> None:
    """Remove the used code from the file. If that fails, the next boot reports it."""
    site, _, _, _ = read_file(host, kept)
    if site is not None:
        remove_secrets(host, site, kept)


def _wait_for_time(host: HostSystem) -> bool:
    if is_time_known(host):
        return True
    host.run("chronyc", "-n", "waitsync", str(SYNC_SECONDS), "0", "0", "1", timeout=SYNC_SECONDS + 10.0)
    return is_time_known(host)


def is_time_known(host: HostSystem) -> bool:
    """Whether a time server has set the clock since the boot.

    If the clock was years behind, the kernel reports this late: chronyd has set it, but does not know its rate yet.
    """
    if host.run("timedatectl", "show", "-p", "NTPSynchronized", "--value").output.strip() == "yes":
        return True
    return host.run("chronyc", "-n", "waitsync", "1", "0", "0", "1").code == 0


def enrolled_as(host: HostSystem) -> Enrolled | None:
    """The identity of the host; None if it is not enrolled, or its identity is invalid."""
    try:
        found = load_text(_read_identity(host).decode())
        return Enrolled(str(found["metadata"]["name"]), str(found["endpoint"]))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError):
        return None


def _is_at(host: HostSystem, endpoint: str) -> bool:
    enrolled = enrolled_as(host)
    return enrolled is not None and enrolled.endpoint == endpoint


def _identity_file(host: HostSystem) -> Path:
    """The file that `jumpstarter-exporter enrol` writes. Importing its package for two words would take too long."""
    return host.exporter_state / "host.yaml"


def _read_identity(host: HostSystem) -> bytes:
    """The start of the file. The exporter's user can put something else in its place, such as a pipe."""
    with open_regular(_identity_file(host)) as file:
        return file.read(MAX_FILE_BYTES)


def _identity(host: HostSystem) -> str:
    """A digest of the host's identity, which only an enrolment changes."""
    try:
        content = _read_identity(host)
    except OSError:
        content = b""
    return hashlib.sha256(content).hexdigest()[:32]


def _reason(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    last = lines[-1] if lines else "it ended without a word"
    return last.removeprefix("jumpstarter-exporter: ").removeprefix("jumpstarter-controller: ")[:500]


def _note(host: HostSystem, trouble: str) -> None:
    """Store a sentence for the status, until the next attempt."""
    file = host.run_folder / _TROUBLE
    if not trouble:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(trouble, encoding="utf-8")


def last_trouble(host: HostSystem) -> str:
    """Why the last attempt must be repeated; empty if it succeeded."""
    try:
        return (host.run_folder / _TROUBLE).read_text(encoding="utf-8")
    except OSError:
        return ""
