"""`jumpstarter-exporter run`: from the command line's words to the host."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.process import keep_what_is_there
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.cli.program import set_up_logging
from jumpstarter_exporter.config.folder import BoardFile, boards_of, read_file, read_files
from jumpstarter_exporter.paths import config_folders
from jumpstarter_exporter.serve import host, sockets
from jumpstarter_exporter.serve.boards import Reading
from jumpstarter_exporter.serve.network import Network
from jumpstarter_exporter.serve.passphrase import read_passphrase
from jumpstarter_exporter.session.logs import NameBoard

if TYPE_CHECKING:
    from jumpstarter_exporter.serve.discovery import Discovery

__all__ = ["run_daemon"]

_log = logging.getLogger(__name__)


class _OptionError(JumpstarterError):
    exit_code = ExitCode.USAGE


def run_daemon(
    *,
    config: str | None,
    board: str | None,
    socket: Path | None,
    listen: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    passphrase_file: Path | None,
    log_level: str,
    discovery: bool = True,
) -> int:
    """Run it, and give its exit code. Raises JumpstarterError for what a user can put right."""
    set_up_logging(log_level, NameBoard())
    network = _network(listen, tls_cert, tls_key, insecure=insecure, passphrase_file=passphrase_file)
    discovers = discovery and config is None and board is None
    read = _reading(config, board, discovers=discovers)
    files = _first(read)
    path = None if socket is None else socket.absolute()
    if board is not None:
        _check_own(board, files[board])
        path = sockets.board_socket_path(path or sockets.default_path(), board)
    with collapsed():
        leads = config is None and board is None
        discovers_with = _discovery() if discovers else None
        keep_what_is_there()
        return trio.run(
            partial(
                host.run,
                files,
                path,
                network,
                read,
                leads=leads,
                discovery=discovers_with,
            )
        )


def _reading(config: str | None, board: str | None, *, discovers: bool) -> Reading:
    """Read the files to serve: one file, one of the configuration folder, or all of them.

    There must be a file, unless the exporter `discovers` devices. If the folder cannot be found, boards that are
    served are not ended.
    """
    if config is not None and board is not None:
        raise _OptionError(
            "--board is one of the configuration folder, --config is any file; use one of them"
        )
    if config is not None:
        file = configuration.locate_config(config).absolute()
        return lambda before: boards_of([read_file(file)], before, _parse)

    def own(before: Mapping[str, BoardFile]) -> Mapping[str, BoardFile]:
        found = boards_of(read_files(), before, _parse)
        if board is None or board not in found:
            places = " or ".join(str(one) for one in config_folders())
            raise configuration.ConfigNotFoundError(
                f"there is no configuration of a board {board!r} in {places}; {nearest(board or '', found)}"
            )
        return {board: found[board]}

    def folder(before: Mapping[str, BoardFile]) -> Mapping[str, BoardFile]:
        if not (files := read_files()) and not (discovers and not before):
            configuration.locate_config(None)  # says so
        return boards_of(files, before, _parse)

    return folder if board is None else own


def _discovery() -> Discovery:
    from jumpstarter_exporter.serve.discovery import Discovery, plugged_devices  # noqa: PLC0415 - who has it off pays nothing

    host = configuration.Identities().find_host()
    return Discovery(plugged_devices, host=None if host is None else host.name)


def _check_own(name: str, file: BoardFile) -> None:
    """Whether no other process has the board that this process is for."""
    if (held := claim.claim_holder(file.path)) is None:
        return
    if file.config is None or file.config.settings.own_process:
        raise held.error
    who = f"process {held.process}" if held.process else "another process"
    raise claim.BoardTakenError(
        f"the board {name} is served by {who} of this host; to run it in its own process, write "
        f"`ownProcess: true` into {file.path}, `jumpstarter-exporter reload`, and then start this one again"
    )


def _first(read: Reading) -> Mapping[str, BoardFile]:
    """Read the boards; raise unless at least one can be served."""
    files = read({})
    errors = [one.error for one in files.values() if one.error is not None]
    if errors and len(errors) == len(files):
        if len(errors) == 1:
            raise errors[0]
        raise _OptionError(f"no board can be served: {errors[0]}")
    return files


def _parse(path: Path, content: bytes) -> configuration.ExporterConfig:
    loaded = configuration.with_identity(configuration.load(path, lenient=True, raw=content), say=True)
    if not loaded.entries:
        raise configuration.ConfigError("nothing is exported; add a device below `export:`", file=loaded.file)
    return loaded


def _network(
    listen: str | None,
    certificate: Path | None,
    key: Path | None,
    *,
    insecure: bool,
    passphrase_file: Path | None,
) -> Network | None:
    if listen is None:
        if certificate or key or insecure or passphrase_file:
            raise _OptionError(
                "TLS and passphrase options are for --listen HOST:PORT; add it, or leave them out"
            )
        return None
    if insecure == bool(certificate or key):
        raise _OptionError("--listen takes either --tls-cert and --tls-key, or --insecure")
    if bool(certificate) != bool(key):
        raise _OptionError("--tls-cert and --tls-key belong together; give both")
    host, port = _host_and_port(listen)
    passphrase = read_passphrase(passphrase_file)
    if passphrase is None:
        _log.warning("everybody who can reach %s can use the boards; add a --passphrase-file", listen)
    elif insecure:
        _log.warning("without TLS everybody on the way can read the passphrase")
    return Network(host, port, certificate, key, passphrase)


def _host_and_port(listen: str) -> tuple[str | None, int]:
    try:
        host, port = split_host_port(listen, to_listen=True, example="0.0.0.0:8082")
    except AddressSyntaxError as error:
        raise _OptionError(f"--listen: {error}") from None
    return host or None, port
