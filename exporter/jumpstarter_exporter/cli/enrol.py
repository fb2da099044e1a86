"""`jumpstarter-exporter enrol`: with a pairing code to a controller. What it says is kept in the state directory.

The code says whether it is for one board, which becomes an exporter, or for the host, which registers all boards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.remote import Kind, Trust, split_endpoint
from jumpstarter_proto.remote.enrolment import HOST_PREFIX, Membership, enrol, kind_of_code
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.secret_input import read_secret
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.yaml_files import ConfigError, set_values

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.config.config_files import ConfigNotFoundError, list_configs, locate_config
from jumpstarter_exporter.config.folder import discovered_file
from jumpstarter_exporter.config.identities import Identities, StoredIdentity, token_place
from jumpstarter_exporter.config.model import Enrolment, ExporterConfig, Tls
from jumpstarter_exporter.config.nonce import forget_nonce, pairing_nonce
from jumpstarter_exporter.paths import SYSTEM_CONFIG_FOLDER, config_folders

__all__ = ["AlreadyEnrolledError", "enrol_exporter", "filled_in"]

VARIABLE = "JMP_PAIRING_CODE"
_RUN_ALL = "Then run it: jumpstarter-exporter run; or, where that runs: jumpstarter-exporter reload"
NEW = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n"


class AlreadyEnrolledError(JumpstarterError):
    """The board has an identity, which is only replaced on request."""

    exit_code = ExitCode.USAGE


def enrol_exporter(
    endpoint: str,
    *,
    fingerprint: str,
    config: str | None,
    save: Path | None,
    replace: bool,
    code_file: Path | None,
    board: str | None = None,
    token_from: Path | None = None,
) -> int:
    """The command. What can be wrong on this side is found before the code is used.

    Killed at any moment, it can be repeated with the same code.
    """
    split_endpoint(endpoint)
    if board is not None and (config is not None or save is not None):
        raise AlreadyEnrolledError(
            "--board is for a board without a configuration; leave --config and --save out"
        )
    if token_from is not None:
        return _take_token(endpoint, board, token_from, replace=replace)
    if config is not None and save is not None:
        raise AlreadyEnrolledError(
            "--config and --save are for one file; --save puts the token into it, --config does not"
        )
    code = read_secret("pairing code", file=code_file, variable=VARIABLE, hidden=False)
    if kind_of_code(code, Kind.EXPORTER) is Kind.HOST:
        if config is not None or save is not None or board is not None:
            raise AlreadyEnrolledError(
                "this code is for a host, which registers all of its boards; leave --config, --save and --board out"
            )
        return _enrol_host(endpoint, Trust(fingerprint=fingerprint), code, replace=replace)
    if board is not None:
        return _enrol_board(endpoint, board, Trust(fingerprint=fingerprint), code, replace=replace)
    with _host_code_hint() if config is None else nullcontext():
        path = Path(os.path.realpath(user_path(_place(config) if save is None else save)))
    if path.is_symlink():
        raise ConfigError("this link leads to itself; remove it, or name another file", file=path)
    text = _read(path)
    board = configuration.load(path, lenient=True).board_name if text.strip() else path.stem
    identities = Identities()
    stored = identities.find(board) if save is not None or not replace else None
    if save is None:
        if stored is not None:
            _check_unchanged(stored, board, endpoint, path)
        identities.prepare()
    elif stored is not None and stored.belongs_to(path):
        raise AlreadyEnrolledError(
            f"the board {board} has its identity in {stored.enrolment.file}, which takes precedence over {path}; "
            "use --config in place of --save, or delete that file"
        )
    if save is not None or not text.strip():
        _writable(path)
    # Saving into a file needs no state directory; if the command is killed, it needs a new code.
    nonce = pairing_nonce(identities, code) if save is None else ""
    with _host_code_hint(), collapsed():
        member = trio.run(enrol, endpoint, Trust(fingerprint=fingerprint), Kind.EXPORTER, code, nonce)
    if save is not None:
        write_private(path, filled_in(text, member).encode())
        print_line(f"{path}: {_enrolment(member, path)}")
        return _say_what_is_next(configuration.load(path, lenient=True))
    enrolment = _enrolment(member, path)
    if stored is not None and not _is_same(stored.enrolment, enrolment):
        _keep_beside(identities, stored, enrolment)
    kept = identities.save(board, enrolment, path)
    forget_nonce(identities)
    print_line(f"{kept}: {enrolment}, for the board {board} of {path}")
    if not text.strip():
        _write_public(path, NEW)
    loaded = configuration.load(path, lenient=True)
    if loaded.enrolment is not None:
        print_line(
            f"Now {token_place(loaded)} is not used; without it, and `endpoint`, everybody may read the file."
        )
    return _say_what_is_next(loaded)


@contextmanager
def _host_code_hint() -> Iterator[None]:
    """Adds a hint to errors: an unknown code may be a mistyped code for a host."""
    hint = f"a code for a host, which registers all of its boards, would begin with {HOST_PREFIX}"
    try:
        yield
    except ConfigNotFoundError as error:
        raise ConfigNotFoundError(f"{error}; {hint}") from None
    except RpcError as error:
        if error.code is not StatusCode.PERMISSION_DENIED:
            raise
        raise RpcError(error.code, f"{error}; {hint}") from None


def _enrol_host(endpoint: str, trust: Trust, code: str, *, replace: bool) -> int:
    """Enrol this host; its boards then register by themselves."""
    identities = Identities()
    stored = None if replace else identities.find_host()
    if stored is not None and stored.endpoint != endpoint:
        raise AlreadyEnrolledError(
            f"this host is {stored.namespace}/{stored.name} of {stored.endpoint} already; "
            f"--replace makes it one of {endpoint}, and forgets the other"
        )
    identities.prepare()
    nonce = pairing_nonce(identities, code)
    with collapsed():
        member = trio.run(enrol, endpoint, trust, Kind.HOST, code, nonce)
    enrolment = _enrolment(member, identities.host_path)
    if stored is not None and not _is_same(stored, enrolment):
        raise AlreadyEnrolledError(
            f"this host is {stored.namespace}/{stored.name} already, and the code is for {enrolment.name}; "
            "to make it that one, use the same code again with --replace"
        )
    kept = identities.save_host(enrolment)
    forget_nonce(identities)
    print_line(f"{kept}: host {enrolment.namespace}/{enrolment.name} of {enrolment.endpoint}")
    print_line(
        "Its boards register by themselves: jumpstarter-exporter run; or, where that runs: jumpstarter-exporter reload"
    )
    return 0


def _enrol_board(endpoint: str, board: str, trust: Trust, code: str, *, replace: bool) -> int:
    """Enrol a board without a configuration."""
    identities = Identities()
    stored = None if replace else identities.find(board)
    if stored is not None:
        _check_unchanged(stored, board, endpoint, identities.path(board))
    identities.prepare()
    nonce = pairing_nonce(identities, code)
    with _host_code_hint(), collapsed():
        member = trio.run(enrol, endpoint, trust, Kind.EXPORTER, code, nonce)
    enrolment = _enrolment(member, identities.path(board))
    if stored is not None and not _is_same(stored.enrolment, enrolment):
        _keep_beside(identities, stored, enrolment)
    kept = identities.save(board, enrolment, discovered_file(identities.folder.parent, board))
    forget_nonce(identities)
    return _say_whose(board, kept, enrolment)


def _take_token(endpoint: str, board: str | None, file: Path, *, replace: bool) -> int:
    """Use the token of a configuration from Jumpstarter 0.9's `jmp admin create exporter`."""
    if board is None:
        raise AlreadyEnrolledError(
            "--token-from needs to know the board that the token is for; add --board NAME"
        )
    enrolment = configuration.load(file, lenient=True).enrolment
    if enrolment is None:
        raise ConfigError(
            "there is no `endpoint` with a `token` in it; take one that the controller wrote", file=file
        )
    if enrolment.endpoint != endpoint:
        raise AlreadyEnrolledError(f"{file} is for {enrolment.endpoint}, and not for {endpoint}; name that")
    identities = Identities()
    stored = None if replace else identities.find(board)
    if stored is not None:
        _check_unchanged(stored, board, endpoint, identities.path(board))
        if not _is_same(stored.enrolment, enrolment):
            raise AlreadyEnrolledError(
                f"the board {board} is {stored.enrolment} already; --replace makes it {enrolment.name}"
            )
    return _say_whose(
        board, identities.save(board, enrolment, discovered_file(identities.folder.parent, board)), enrolment
    )


def _say_whose(board: str, kept: Path, enrolment: Enrolment) -> int:
    print_line(f"{kept}: {enrolment}, for the board {board}")
    print_line(_RUN_ALL)
    return 0


def filled_in(text: str, member: Membership) -> str:
    """The configuration with the controller's answer; everything else stays, including comments."""
    return set_values(text if text.strip() else NEW, member.changes())


def _say_what_is_next(loaded: ExporterConfig) -> int:
    if not loaded.entries:
        print_line(
            f"Put the boards below `export:` in {loaded.file}, in place of `{{}}`; "
            "`jumpstarter-exporter check` says whether that is right."
        )
    if loaded.file in list_configs().values():
        print_line(_RUN_ALL)
    else:
        print_line(f"Then run it: jumpstarter-exporter run --config {loaded.file}")
    return 0


def _enrolment(member: Membership, file: Path) -> Enrolment:
    identity, trust = member.identity, member.trust
    tls = Tls(ca=trust.ca, insecure=trust.insecure)
    return Enrolment(member.endpoint, identity.namespace, identity.name, identity.token, tls, file)


def _is_same(one: Enrolment, other: Enrolment) -> bool:
    return (one.namespace, one.name) == (other.namespace, other.name)


def _check_unchanged(stored: StoredIdentity, board: str, endpoint: str, path: Path) -> None:
    """An existing identity may get a new token, but no other name."""
    if not stored.belongs_to(path):
        raise AlreadyEnrolledError(
            f"the board {board} of {stored.config} is {stored.enrolment} already; "
            f"give {path} another `metadata.name`, or use --replace"
        )
    if stored.enrolment.endpoint != endpoint:
        raise AlreadyEnrolledError(
            f"the board {board} is {stored.enrolment} already; "
            f"--replace makes it one of {endpoint}, and forgets the other"
        )


def _keep_beside(identities: Identities, stored: StoredIdentity, enrolment: Enrolment) -> None:
    """Keep both the board's identity and the new one. Raises AlreadyEnrolledError."""
    name, number = enrolment.name, 2
    while (there := identities.find(name)) is not None and not _is_same(there.enrolment, enrolment):
        name, number = f"{enrolment.name}-{number}", number + 1
    kept = identities.save(name, enrolment, None if there is None else there.config)
    raise AlreadyEnrolledError(
        f"the board {stored.board} is {stored.enrolment} already, and the code was for {enrolment.name}: that is kept "
        f"in {kept} for a board with `metadata: {{name: {name}}}`; or use --replace with another code"
    )


def _place(config: str | None) -> Path:
    try:
        return locate_config(config)
    except ConfigNotFoundError:
        if config is not None or any(True for folder in config_folders() for _ in folder.glob("*.yaml")):
            raise  # several: the user must choose
    own = os.geteuid() != 0 or os.environ.get("JMP_CLIENT_CONFIG_HOME")
    return (config_folders()[0] if own else SYSTEM_CONFIG_FOLDER) / "default.yaml"


def _read(path: Path) -> str:
    """The file's content, if it is a configuration; empty if it does not exist."""
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
        raise PrivateFileError(f"{path.parent} is not writable for this user; use sudo, or another file")


def _write_public(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PrivateFileError(
            f"{path} cannot be written: {error.strerror}; the exporter is enrolled, write the file by hand"
        ) from None
