"""`jumpstarter login`: become a client of a controller, and keep what that takes as a configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_client.cli.arguments import Arguments, asks_for_help, take
from jumpstarter_client.cli.options import Options, UsageError

if TYPE_CHECKING:
    from jumpstarter_client.leasing.configs import ClientConfig

__all__ = ["login"]

HELP = """Usage: jumpstarter login HOST:PORT --pairing-code | --name NAME [OPTION ...]

Become a client of a controller. Who runs it gives you a pairing code (`jumpstarter-controller admin pair client ann`),
which is good once, or a token. Either is asked for, or read from stdin, or from a file; never from the command line,
which everybody on this machine can read. What comes of it is a configuration that only you can read.

  jumpstarter login lab.example.org:8082 --pairing-code
  jumpstarter login 192.168.1.5:8082 --pairing-code --tls-fingerprint 3F:A0:…
  jumpstarter login lab.example.org:8082 --name ann --token-file token
  vault read -field=token lab/ann | jumpstarter login lab.example.org:8082 --name ann

Options:
  --pairing-code           with a pairing code; JMP_PAIRING_CODE may have it
  --code-file FILE         the same, and the code is in that file
  --name NAME              with a token, as the client of that name; JMP_TOKEN may have it
  --namespace NAMESPACE    of that client; `default` if left out
  --token-file FILE        the token is in that file
  --tls-fingerprint HEX    SHA-256 of the controller's certificate, if it made its own; it printed it at its start
  --alias ALIAS            what to call the configuration; the client's name if left out
  --allow PATTERN          of Jumpstarter's own client: load only these client classes of drivers; several are fine
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
    )
}


def login(arguments: list[str], options: Options) -> int:
    """The command."""
    if asks_for_help(arguments):
        sys.stdout.write(HELP)
        return 0
    given = take("login", arguments, _VALUED, {"--pairing-code": "--pairing-code"})
    if len(given.words) != 1:
        raise UsageError(
            "`login` takes one controller, as HOST:PORT; `jumpstarter login --help` shows examples"
        )
    by_code = bool(given.flags) or given.one("--code-file") is not None
    if by_code and (given.one("--token-file") or given.one("--name")):
        raise UsageError("a pairing code says who you are; leave --name and --token-file out, or the code")
    from jumpstarter_client.leasing.config_files import ConfigFiles  # noqa: PLC0415 - not for --help
    from jumpstarter_client.leasing.configs import config_home  # noqa: PLC0415

    files = ConfigFiles(config_home(os.environ))
    if alias := given.one("--alias"):
        files.path(alias)  # before a code is used up
    member = _member(given, by_code=by_code)
    alias = alias or files.free_alias(member)
    allow = given.values.get("--allow", [])
    path = files.save(alias, member, allow=allow, unsafe=not allow)
    who = f"{member.identity.namespace}/{member.identity.name}"
    sys.stdout.write(f"{path}: client {who} of {member.endpoint}\n")
    if files.current() != alias:
        sys.stdout.write(f"Use it with --client {alias}, or always: jumpstarter config client use {alias}\n")
    return 0


def _member(given: Arguments, *, by_code: bool) -> ClientConfig:
    import trio  # noqa: PLC0415 - not for --help
    from jumpstarter_proto.remote import Identity, Kind, Trust, split_endpoint  # noqa: PLC0415
    from jumpstarter_proto.secret_input import read_secret  # noqa: PLC0415

    from jumpstarter_client.blocking import collapse  # noqa: PLC0415
    from jumpstarter_client.leasing import joining  # noqa: PLC0415

    endpoint = given.words[0]
    split_endpoint(endpoint)  # before anybody types a secret
    trust = Trust(fingerprint=given.one("--tls-fingerprint") or "")
    if by_code:
        code = read_secret(
            "pairing code", file=_file(given, "--code-file"), variable="JMP_PAIRING_CODE", hidden=False
        )
        with collapse():
            return trio.run(joining.by_code, endpoint, trust, code)
    name = given.one("--name")
    if name is None:
        raise UsageError("say who you are: --pairing-code, or --name NAME and a token")
    token = read_secret("token", file=_file(given, "--token-file"), variable="JMP_TOKEN")
    identity = Identity(Kind.CLIENT, given.one("--namespace") or "default", name, token)
    with collapse():
        return trio.run(joining.by_token, endpoint, trust, identity)


def _file(given: Arguments, option: str) -> Path | None:
    text = given.one(option)
    return None if text is None else Path(text).expanduser()
