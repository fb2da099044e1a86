"""`jumpstarter-exporter run`: from the command line's words to the host."""

from __future__ import annotations

import logging
from pathlib import Path

import trio
from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.cli.main import set_up_logging
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
    loaded = configuration.with_identity(
        configuration.load(configuration.locate(config), lenient=True), say=True
    )
    if not loaded.entries:
        raise configuration.ConfigError("nothing is exported; add a device below `export:`", file=loaded.file)
    if loaded.enrolment is not None and network is None and socket is None:
        from jumpstarter_exporter.registration import run_registered  # noqa: PLC0415 - local exporters need none of it

        with collapsed():
            return trio.run(run_registered, loaded)
    path = sockets.default_path() if socket is None else socket.absolute()
    with collapsed():
        return trio.run(host.run, loaded, path, network)


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
