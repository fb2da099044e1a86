"""`jumpstarter login`: log in to a controller and save the client configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_proto.remote import Identity, Kind, Trust, read_claims, split_endpoint
from jumpstarter_proto.secret_input import read_secret
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_client.cli.arguments import Arguments, parse_arguments
from jumpstarter_client.cli.options import Options, UsageError
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.controller import client_login
from jumpstarter_client.controller.client_login import LoginOptions
from jumpstarter_client.identity.client_config import config_home, load, replace_tokens
from jumpstarter_client.identity.config_files import ConfigFiles

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["login"]

_VALUED = {
    name: name
    for name in (
        "--code-file",
        "--name",
        "--namespace",
        "--token-file",
        "--tls-fingerprint",
        "--alias",
        "--allow",
        "--issuer",
        "--client-id",
        "--callback-port",
    )
}
_FLAGS = {"--pairing-code": "--pairing-code", "--browser": "--browser", "--unsafe": "--unsafe"}
DEFAULT_ALLOWED = ("jumpstarter_driver_*",)
"""The client classes of Jumpstarter's own packages. An exporter cannot make this client load others."""
_ISSUER_OPTIONS = ("--issuer", "--client-id", "--callback-port", "--browser")


def login(arguments: list[str], options: Options) -> int:
    """Run the command."""
    given = parse_arguments("login", arguments, _VALUED, _FLAGS)
    if len(given.words) > 1:
        raise UsageError(
            "`login` takes one controller, as HOST:PORT; `jumpstarter login --help` shows examples"
        )
    enrol_with_code = "--pairing-code" in given.flags or given.one("--code-file") is not None
    log_in_with_token = given.one("--token-file") is not None or given.one("--name") is not None
    by_issuer = any(given.one(option) or option in given.flags for option in _ISSUER_OPTIONS)
    if enrol_with_code and (log_in_with_token or by_issuer):
        raise UsageError(
            "a pairing code already names the client; remove --name, --token-file and --issuer, or the code"
        )
    if given.one("--token-file") and by_issuer:
        raise UsageError("--token-file and a login at an issuer exclude each other; remove one of them")
    if not given.words:
        if enrol_with_code or log_in_with_token:
            raise UsageError(
                "no controller named; use `jumpstarter login HOST:PORT` (see: jumpstarter login --help)"
            )
        return _log_in_again(given, options)

    files = ConfigFiles(config_home(os.environ))
    if alias := given.one("--alias"):
        files.path(alias)  # an invalid alias fails before the code is used up
    member = _log_in(
        given, enrol_with_code=enrol_with_code, log_in_with_token=log_in_with_token and not by_issuer
    )
    alias = alias or files.free_alias(member)
    allow = tuple(given.values.get("--allow", DEFAULT_ALLOWED))
    path = files.save(
        alias,
        replace(member, allow=allow, unsafe="--unsafe" in given.flags),
        keeps_drivers="--allow" not in given.values and "--unsafe" not in given.flags,
    )
    _print_result(path, member)
    if files.current() != alias:
        print_line(
            f"Use it with --client {alias}, or make it the current one: jumpstarter config client use {alias}"
        )
    return 0


def _print_result(path: Path, member: ClientConfig) -> None:
    who = f"{member.identity.namespace}/{member.identity.name}"
    print_line(f"{path}: client {who} of {member.endpoint}")


def _log_in(given: Arguments, *, enrol_with_code: bool, log_in_with_token: bool) -> ClientConfig:

    endpoint = given.words[0]
    split_endpoint(endpoint)  # an invalid address fails before the secret is typed
    trust = Trust(fingerprint=given.one("--tls-fingerprint") or "")
    if enrol_with_code:
        code = read_secret(
            "pairing code", file=_file(given, "--code-file"), variable="JMP_PAIRING_CODE", hidden=False
        )
        return run_trio(partial(client_login.enrol_with_code, endpoint, trust, code))
    if not log_in_with_token:
        return run_trio(
            partial(client_login.log_in_with_issuer, endpoint, trust, _login(given), _print_instruction)
        )
    token = read_secret("token", file=_file(given, "--token-file"), variable="JMP_TOKEN")
    name = given.one("--name")
    if name is None:
        raise UsageError("no client named; add --name NAME")
    identity = Identity(Kind.CLIENT, given.one("--namespace") or "default", name, token)
    return run_trio(partial(client_login.log_in_with_token, endpoint, trust, identity))


def _log_in_again(given: Arguments, options: Options) -> int:
    """Log in again with a configuration. Only its tokens are replaced."""
    before = load(options.client, os.environ)
    claims = read_claims(before.identity.token)
    if claims.is_own or before.path is None:
        raise UsageError(
            "no controller named; use `jumpstarter login HOST:PORT` (see: jumpstarter login --help)"
        )
    who = before.identity
    login = replace(_login(given), namespace=who.namespace, name=who.name)
    if not login.issuer:
        login = replace(login, issuer=claims.issuer)
    member = run_trio(
        partial(client_login.log_in_with_issuer, before.endpoint, before.trust, login, _print_instruction)
    )
    replace_tokens(before.path, member.identity.token, member.refresh_token)
    _print_result(before.path, member)
    return 0


def _login(given: Arguments) -> LoginOptions:

    port = given.one("--callback-port") or "0"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--callback-port {port}: a port is a number from 0 to 65535")
    found = LoginOptions(
        issuer=given.one("--issuer") or "",
        namespace=given.one("--namespace") or "default",
        name=given.one("--name") or "",
        browser="--browser" in given.flags or bool(given.one("--callback-port")),
        port=int(port),
    )
    client_id = given.one("--client-id")
    return replace(found, client_id=client_id) if client_id else found


def _print_instruction(sentence: str) -> None:
    print_error_line(sentence)


def _file(given: Arguments, option: str) -> Path | None:
    text = given.one(option)
    return None if text is None else Path(text).expanduser()
