"""`jumpstarter-exporter enrol`: with a pairing code to a controller, and into the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from jumpstarter_proto.documents import ConfigError, edited
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.remote import Kind, Trust, split_endpoint
from jumpstarter_proto.remote.enrolment import Membership, enrol
from jumpstarter_proto.secret_input import read_secret
from jumpstarter_proto.terminal import print_line

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.config.places import SYSTEM, ConfigNotFoundError, folders
from jumpstarter_exporter.errors import collapsed

__all__ = ["enrol_exporter", "filled_in"]

VARIABLE = "JMP_PAIRING_CODE"
NEW = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n"


def enrol_exporter(endpoint: str, *, fingerprint: str, save: Path | None, code_file: Path | None) -> int:
    """The command. What can be wrong on this side is found before the code is used, for that works only once."""
    split_endpoint(endpoint)
    path = (save or _place()).expanduser().resolve()
    before = _read(path)
    _writable(path)
    code = read_secret("pairing code", file=code_file, variable=VARIABLE, hidden=False)
    with collapsed():
        member = trio.run(enrol, endpoint, Trust(fingerprint=fingerprint), Kind.EXPORTER, code)
    write_private(path, filled_in(before, member).encode())
    who = f"{member.identity.namespace}/{member.identity.name}"
    print_line(f"{path}: exporter {who} of {member.endpoint}")
    if not configuration.load(path, lenient=True).entries:
        print_line(
            "Put the boards below its `export:`, in place of `{}`; "
            "`jumpstarter-exporter check` says whether that is right."
        )
    print_line(f"Then run it: jumpstarter-exporter run --config {path}")
    return 0


def filled_in(text: str, member: Membership) -> str:
    """A configuration with what a controller has to be told and asked; all else stays, comments too."""
    return edited(text if text.strip() else NEW, member.changes())


def _place() -> Path:
    try:
        return configuration.find()
    except ConfigNotFoundError:
        if any(True for folder in folders() for _ in folder.glob("*.yaml")):
            raise  # several: which one is meant is the user's to say
    own = os.geteuid() != 0 or os.environ.get("JMP_CLIENT_CONFIG_HOME")
    return (folders()[0] if own else SYSTEM) / "default.yaml"


def _read(path: Path) -> str:
    """What is there, if it is a configuration; empty if there is nothing."""
    if not path.exists():
        return ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file cannot be read: {error}", file=path) from None
    if text.strip():
        configuration.load(path, lenient=True)
    return text


def _writable(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise PrivateFileError(f"{path.parent} cannot be made: {error.strerror}; name another") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PrivateFileError(f"{path.parent} is not writable for this user; use sudo, or another --save")
