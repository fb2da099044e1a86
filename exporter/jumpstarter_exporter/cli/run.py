"""`jumpstarter-exporter run`: from the command line's words to the host."""

from __future__ import annotations

import logging
from pathlib import Path

import trio
from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.cli.main import set_up_logging
from jumpstarter_exporter.config.folder import boards_of, read_files
from jumpstarter_exporter.errors import collapsed
from jumpstarter_exporter.serve import host
from jumpstarter_exporter.serve.network import Network
from jumpstarter_exporter.serve.passphrase import read_passphrase

__all__ = ["run_daemon"]

_log = logging.getLogger(__name__)


class _OptionError(JumpstarterError):
    exit_code = ExitCode.USAGE


def run_daemon(
    *,
    config: str | None,
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
    loaded, problems = _configurations(config)
    path = None if socket is None else socket.absolute()
    with collapsed():
        return trio.run(host.run, loaded, path, network, problems)


def _configurations(
    config: str | None,
) -> tuple[list[configuration.ExporterConfig], dict[str, str]]:
    """What is to be served: one file, or every one that there is; and why others of them cannot be."""
    boards = boards_of(read_files(), parse=_parse) if config is None else {}
    if len(boards) < 2:
        return [_parse(configuration.locate(config))], {}
    problems = {name: str(one.error) for name, one in boards.items() if one.error is not None}
    for name, problem in problems.items():
        _log.error("the board %s is not served: %s", name, problem)
    if len(problems) == len(boards):
        raise _OptionError(f"no board can be served: {next(iter(problems.values()))}")
    return [one.config for one in boards.values() if one.config is not None], problems


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
