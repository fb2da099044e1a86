"""`jumpstarter login`: become a client of a controller, and keep what that takes as a configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_client.cli.arguments import Arguments, asks_for_help, take
from jumpstarter_client.cli.options import Options, UsageError

if TYPE_CHECKING:
    from jumpstarter_client.controller.client_login import Login
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["login"]

HELP = """Usage: jumpstarter login [HOST:PORT] [--pairing-code | --name NAME | --issuer URL] [OPTION ...]

Become a client of a controller. Where it knows your company's or lab's OpenID provider you log in there. Otherwise who
runs it gives you a pairing code (`jumpstarter-controller admin pair client ann`), which is good once, or a token.
What comes of it is a configuration that only you can read.

  jumpstarter login lab.example.org:8082                     log in on a page, in any browser
  jumpstarter login lab.example.org:8082 --browser           in this machine's
  jumpstarter login                                          once more, with the current configuration
  jumpstarter login lab.example.org:8082 --pairing-code
  jumpstarter login 192.168.1.5:8082 --pairing-code --tls-fingerprint 3F:A0:…
  vault read -field=token lab/ann | jumpstarter login lab.example.org:8082 --name ann

A code or a token is asked for, or read from stdin, or from a file; never from the command line, which everybody on this
machine can read.

Options:
  --tls-fingerprint HEX    SHA-256 of the controller's certificate, if it made its own; it printed it at its start
  --alias ALIAS            what to call the configuration; the client's name if left out
  --namespace NAMESPACE    of the client; `default` if left out
  --allow PATTERN          client classes of others' drivers that may be loaded; `jumpstarter_driver_*` if left out
  --unsafe                 all of them, whatever an exporter names
With a pairing code:
  --pairing-code           JMP_PAIRING_CODE may have it
  --code-file FILE         the code is in that file
With a token:
  --name NAME              whose it is; JMP_TOKEN may have it
  --token-file FILE        the token is in that file
With a login:
  --issuer URL             where, if the controller knows several, or does not say
  --client-id ID           as what; `jumpstarter-cli` if left out
  --browser                with this machine's browser, instead of a code that is typed on a page
  --callback-port PORT     where that browser comes back to, if the issuer wants it to be always the same
"""

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
DRIVERS = ("jumpstarter_driver_*",)
"""Jumpstarter's own; whatever else an exporter may name, and this machine happens to have, is not loaded."""
_BY_LOGIN = ("--issuer", "--client-id", "--callback-port", "--browser")


def login(arguments: list[str], options: Options) -> int:
    """The command."""
    if asks_for_help(arguments):
        print_text(HELP)
        return 0
    given = take("login", arguments, _VALUED, _FLAGS)
    if len(given.words) > 1:
        raise UsageError(
            "`login` takes one controller, as HOST:PORT; `jumpstarter login --help` shows examples"
        )
    enrol_with_code = "--pairing-code" in given.flags or given.one("--code-file") is not None
    log_in_with_token = given.one("--token-file") is not None or given.one("--name") is not None
    by_login = any(given.one(option) or option in given.flags for option in _BY_LOGIN)
    if enrol_with_code and (log_in_with_token or by_login):
        raise UsageError(
            "a pairing code says who you are; leave --name, --token-file and --issuer out, or the code"
        )
    if given.one("--token-file") and by_login:
        raise UsageError(
            "with a token nobody has to log in; leave --issuer and --browser out, or --token-file"
        )
    if not given.words:
        if enrol_with_code or log_in_with_token:
            raise UsageError("which controller? `login` takes it as HOST:PORT; `jumpstarter login --help`")
        return _again(given, options)
    from jumpstarter_client.identity.client_config import config_home  # noqa: PLC0415
    from jumpstarter_client.identity.config_files import ConfigFiles  # noqa: PLC0415 - not for --help

    files = ConfigFiles(config_home(os.environ))
    if alias := given.one("--alias"):
        files.path(alias)  # before a code is used up
    member = _member(
        given, enrol_with_code=enrol_with_code, log_in_with_token=log_in_with_token and not by_login
    )
    alias = alias or files.free_alias(member)
    allow = tuple(given.values.get("--allow", DRIVERS))
    path = files.save(
        alias,
        replace(member, allow=allow, unsafe="--unsafe" in given.flags),
        keeps_drivers="--allow" not in given.values and "--unsafe" not in given.flags,
    )
    _say(path, member)
    if files.current() != alias:
        print_line(f"Use it with --client {alias}, or always: jumpstarter config client use {alias}")
    return 0


def _say(path: Path, member: ClientConfig) -> None:
    who = f"{member.identity.namespace}/{member.identity.name}"
    print_line(f"{path}: client {who} of {member.endpoint}")


def _member(given: Arguments, *, enrol_with_code: bool, log_in_with_token: bool) -> ClientConfig:
    from jumpstarter_proto.remote import Identity, Kind, Trust, split_endpoint  # noqa: PLC0415 - not for --help
    from jumpstarter_proto.secret_input import read_secret  # noqa: PLC0415

    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415
    from jumpstarter_client.controller import client_login  # noqa: PLC0415

    endpoint = given.words[0]
    split_endpoint(endpoint)  # before anybody types a secret
    trust = Trust(fingerprint=given.one("--tls-fingerprint") or "")
    if enrol_with_code:
        code = read_secret(
            "pairing code", file=_file(given, "--code-file"), variable="JMP_PAIRING_CODE", hidden=False
        )
        return run(partial(client_login.enrol_with_code, endpoint, trust, code))
    if not log_in_with_token:
        return run(partial(client_login.log_in_with_issuer, endpoint, trust, _login(given), _tell))
    token = read_secret("token", file=_file(given, "--token-file"), variable="JMP_TOKEN")
    name = given.one("--name")
    if name is None:
        raise UsageError("whose token is it? --name NAME")
    identity = Identity(Kind.CLIENT, given.one("--namespace") or "default", name, token)
    return run(partial(client_login.log_in_with_token, endpoint, trust, identity))


def _again(given: Arguments, options: Options) -> int:
    """Log in once more where a configuration says; it stays as it is but for its tokens."""
    from jumpstarter_proto.remote import read_claims  # noqa: PLC0415

    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415
    from jumpstarter_client.controller import client_login  # noqa: PLC0415
    from jumpstarter_client.identity.client_config import load, replace_tokens  # noqa: PLC0415

    before = load(options.client, os.environ)
    claims = read_claims(before.identity.token)
    if claims.is_own or before.path is None:
        raise UsageError("which controller? `login` takes it as HOST:PORT; `jumpstarter login --help`")
    who = before.identity
    login = replace(_login(given), namespace=who.namespace, name=who.name)
    if not login.issuer:
        login = replace(login, issuer=claims.issuer)
    member = run(partial(client_login.log_in_with_issuer, before.endpoint, before.trust, login, _tell))
    replace_tokens(before.path, member.identity.token, member.refresh_token)
    _say(before.path, member)
    return 0


def _login(given: Arguments) -> Login:
    from jumpstarter_client.controller.client_login import Login  # noqa: PLC0415

    port = given.one("--callback-port") or "0"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--callback-port {port}: a port is a number up to 65535")
    found = Login(
        issuer=given.one("--issuer") or "",
        namespace=given.one("--namespace") or "default",
        name=given.one("--name") or "",
        browser="--browser" in given.flags or bool(given.one("--callback-port")),
        port=int(port),
    )
    client_id = given.one("--client-id")
    return replace(found, client_id=client_id) if client_id else found


def _tell(sentence: str) -> None:
    print_error_line(sentence)


def _file(given: Arguments, option: str) -> Path | None:
    text = given.one(option)
    return None if text is None else Path(text).expanduser()
