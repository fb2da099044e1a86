"""`jumpstarter-exporter run`: from the command line's words to the host."""

from __future__ import annotations

import logging
from pathlib import Path

import trio
from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.documents import nearest
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.cli.main import set_up_logging
from jumpstarter_exporter.config.folder import boards_of, read_files
from jumpstarter_exporter.config.places import folders
from jumpstarter_exporter.errors import collapsed
from jumpstarter_exporter.serve import host, sockets
from jumpstarter_exporter.serve.network import Network
from jumpstarter_exporter.serve.passphrase import read_passphrase

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
) -> int:
    """Run it, and give its exit code. Raises JumpstarterError for what a user can put right."""
    set_up_logging(log_level)
    network = _network(listen, tls_cert, tls_key, insecure=insecure, passphrase_file=passphrase_file)
    path = None if socket is None else socket.absolute()
    loaded, problems, elsewhere = (
        _configurations(config) if board is None else ([_own(board, config)], {}, {})
    )
    if board is not None:
        path = sockets.of_board(path or sockets.default_path(), board)
    with collapsed():
        return trio.run(host.run, loaded, path, network, problems, elsewhere)


def _own(name: str, config: str | None) -> configuration.ExporterConfig:
    """The configuration of a board that this process is for."""
    if config is not None:
        raise _OptionError(
            "--board is one of the configuration folder, --config is any file; use one of them"
        )
    boards = boards_of(read_files(), parse=_parse)
    found = boards.get(name)
    if found is None:
        places = " or ".join(str(folder) for folder in folders())
        raise configuration.ConfigNotFoundError(
            f"there is no configuration of a board {name!r} in {places}; {nearest(name, boards)}"
        )
    if found.config is None:
        raise found.error or _OptionError(f"{found.path} is no configuration")
    held = claim.holder(found.path)
    if held is not None and not found.config.settings.own_process:
        who = f"process {held.process}" if held.process else "another process"
        raise claim.BoardTakenError(
            f"the board {name} is served by {who} of this host; for a process of its own, write "
            f"`ownProcess: true` into {found.path}, restart that process, and then start this one again"
        )
    if held is not None:
        raise held.error
    return found.config


def _configurations(
    config: str | None,
) -> tuple[list[configuration.ExporterConfig], dict[str, str], dict[str, Path]]:
    """What is to be served: one file, or all; why others cannot be; which have processes of their own."""
    boards = boards_of(read_files(), parse=_parse) if config is None else {}
    elsewhere = {
        name: one.path
        for name, one in boards.items()
        if one.config is not None and one.config.settings.own_process
    }
    if len(boards) < 2 and not elsewhere:
        return [_parse(configuration.locate(config))], {}, {}
    problems = {name: str(one.error) for name, one in boards.items() if one.error is not None}
    for name, problem in problems.items():
        _log.error("the board %s is not served: %s", name, problem)
    if len(problems) == len(boards):
        raise _OptionError(f"no board can be served: {next(iter(problems.values()))}")
    here = [one.config for name, one in boards.items() if one.config is not None and name not in elsewhere]
    return here, problems, elsewhere


def _parse(path: Path, content: bytes | None = None) -> configuration.ExporterConfig:
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
        _log.warning(
            "everybody who can reach %s can use the boards; a --passphrase-file keeps others out", listen
        )
    elif insecure:
        _log.warning("without TLS everybody on the way can read the passphrase")
    return Network(host, port, certificate, key, passphrase)


def _host_and_port(listen: str) -> tuple[str | None, int]:
    try:
        host, port = split_host_port(listen, to_listen=True, example="0.0.0.0:8082")
    except AddressSyntaxError as error:
        raise _OptionError(f"--listen: {error}") from None
    return host or None, port
