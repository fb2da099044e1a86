"""`jumpstarter login`: log in to a controller and save the client configuration."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_proto.addresses import CONTROLLER_PORT, split_host_port
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.remote import Identity, Kind, Trust, read_claims, split_endpoint
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.secret_input import read_secret
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_client.cli.arguments import Arguments, parse_arguments
from jumpstarter_client.cli.command_options import LOGIN, LOGIN_BY_CODE, LOGIN_BY_ISSUER, LOGIN_BY_TOKEN
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.controller import client_login
from jumpstarter_client.controller.client_login import LoginOptions
from jumpstarter_client.identity.client_config import config_home, load, replace_tokens
from jumpstarter_client.identity.config_files import ConfigFiles

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["login"]

DEFAULT_ALLOWED = ("jumpstarter_driver_*",)
"""The client classes of Jumpstarter's own packages. An exporter cannot make this client load others."""


def login(arguments: list[str], options: GlobalOptions) -> int:
    """Run the command."""
    parsed = parse_arguments("login", arguments, (*LOGIN, *LOGIN_BY_CODE, *LOGIN_BY_TOKEN, *LOGIN_BY_ISSUER))
    if len(parsed.words) > 1:
        raise UsageError(
            "`login` takes one controller, as HOST:PORT; `jumpstarter login --help` shows examples"
        )
    by_code = "--pairing-code" in parsed.flags or parsed.one("--code-file") is not None
    by_token = parsed.one("--token-file") is not None or parsed.one("--name") is not None
    by_issuer = any(parsed.one(option.field) or option.field in parsed.flags for option in LOGIN_BY_ISSUER)
    if by_code and (by_token or by_issuer):
        raise UsageError(
            "a pairing code already names the client; remove --name, --token-file and --issuer, or the code"
        )
    if parsed.one("--token-file") and by_issuer:
        raise UsageError("--token-file and a login at an issuer exclude each other; remove one of them")
    if not parsed.words:
        if by_code or by_token:
            raise UsageError(
                "no controller named; use `jumpstarter login HOST:PORT` (see: jumpstarter login --help)"
            )
        return _log_in_again(parsed, options)

    files = ConfigFiles(config_home(os.environ))
    if alias := parsed.one("--alias"):
        files.path(alias)  # an invalid alias fails before the code is used up
    try:
        config = _log_in(parsed, by_code=by_code, by_token=by_token and not by_issuer)
    except RpcError as error:
        host, reason = parsed.words[0], error.details.partition(";")[0]
        is_refused = error.code is StatusCode.UNAVAILABLE and reason.endswith(os.strerror(errno.ECONNREFUSED))
        if not is_refused or split_host_port(host, default_port=0)[1]:
            raise
        raise RpcError(
            error.code,
            f"{reason}; without a port it is {CONTROLLER_PORT}, and this project's controllers use 8082: "
            f"jumpstarter login {host}:8082",
        ) from None
    alias = alias or files.free_alias(config)
    allow = tuple(parsed.values.get("--allow", DEFAULT_ALLOWED))
    path = files.save(
        alias,
        replace(config, allow=allow, unsafe="--unsafe" in parsed.flags),
        keeps_drivers="--allow" not in parsed.values and "--unsafe" not in parsed.flags,
    )
    _print_result(path, config)
    if files.current() != alias:
        print_line(
            f"Use it with --client {alias}, or make it the current one: jumpstarter config client use {alias}"
        )
    return 0


def _print_result(path: Path, config: ClientConfig) -> None:
    who = f"{config.identity.namespace}/{config.identity.name}"
    print_line(f"{path}: client {who} of {config.endpoint}")


def _log_in(parsed: Arguments, *, by_code: bool, by_token: bool) -> ClientConfig:

    endpoint = parsed.words[0]
    split_endpoint(endpoint)  # an invalid address fails before the secret is typed
    trust = Trust(fingerprint=parsed.one("--tls-fingerprint") or "")
    if by_code:
        code = read_secret(
            "pairing code", file=_file(parsed, "--code-file"), variable="JMP_PAIRING_CODE", hidden=False
        )
        return run_trio(partial(client_login.enrol_with_code, endpoint, trust, code))
    if not by_token:
        return run_trio(
            partial(client_login.log_in_with_issuer, endpoint, trust, _login(parsed), _print_instruction)
        )
    token = read_secret("token", file=_file(parsed, "--token-file"), variable="JMP_TOKEN")
    name = parsed.one("--name")
    if name is None:
        raise UsageError("no client named; add --name NAME")
    identity = Identity(Kind.CLIENT, parsed.one("--namespace") or "default", name, token)
    return run_trio(partial(client_login.log_in_with_token, endpoint, trust, identity))


def _log_in_again(parsed: Arguments, options: GlobalOptions) -> int:
    """Log in again with a configuration. Only its tokens are replaced."""
    before = load(options.client, os.environ)
    claims = read_claims(before.identity.token)
    if claims.is_own or before.path is None:
        raise UsageError(
            "no controller named; use `jumpstarter login HOST:PORT` (see: jumpstarter login --help)"
        )
    who = before.identity
    login = replace(_login(parsed), namespace=who.namespace, name=who.name)
    if not login.issuer:
        login = replace(login, issuer=claims.issuer)
    config = run_trio(
        partial(client_login.log_in_with_issuer, before.endpoint, before.trust, login, _print_instruction)
    )
    replace_tokens(before.path, config.identity.token, config.refresh_token)
    _print_result(before.path, config)
    return 0


def _login(parsed: Arguments) -> LoginOptions:

    port = parsed.one("--callback-port") or "0"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--callback-port {port}: a port is a number from 0 to 65535")
    found = LoginOptions(
        issuer=parsed.one("--issuer") or "",
        namespace=parsed.one("--namespace") or "default",
        name=parsed.one("--name") or "",
        browser="--browser" in parsed.flags or bool(parsed.one("--callback-port")),
        port=int(port),
    )
    client_id = parsed.one("--client-id")
    return replace(found, client_id=client_id) if client_id else found


def _print_instruction(sentence: str) -> None:
    print_error_line(sentence)


def _file(parsed: Arguments, option: str) -> Path | None:
    text = parsed.one(option)
    return None if text is None else user_path(text)
