"""`jumpstarter auth …`: the token with which we are who we are to a controller."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli.arguments import asks_for_help, take
from jumpstarter_client.cli.options import Options, UsageError, nearest, take_output

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["auth"]

HELP = """Usage: jumpstarter auth status|rotate|refresh [-o json|yaml] [--client FILE]

The token with which you are a client of a controller. It is never shown.

  jumpstarter auth status                   who you are, until when, and whether the controller takes it
  jumpstarter auth status --client lab      of another configuration than the current one
  jumpstarter auth status -o json | jq .seconds_left
  jumpstarter auth rotate                   a new token in place of it; the old one counts for a day more
  jumpstarter auth refresh                  a new token of another issuer; commands do that by themselves in time
"""
_VERBS = ("status", "rotate", "refresh")


def auth(arguments: list[str], options: Options) -> ExitCode:
    """The command. DENIED when the controller does not take the token."""
    if not arguments or asks_for_help(arguments):
        print_text(HELP)
        return ExitCode.OK if asks_for_help(arguments) else ExitCode.USAGE
    verb, *rest = arguments
    if verb not in _VERBS:
        raise UsageError(f"`auth` has no verb {verb!r}{nearest(verb, _VERBS)}")
    output, rest = take_output(rest, ("json", "yaml"))
    given = take(f"auth {verb}", rest)
    if given.words:
        raise UsageError(f"`auth {verb}` takes no {given.words[0]!r}; name a configuration with --client")
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415 - not for --help

    config = load(options.client, os.environ)
    if verb == "rotate":
        return _rotate(config)
    if verb == "refresh":
        return _refresh(config)
    return _status(config, options.client, output or options.output)


def _status(config: ClientConfig, name: str | None, output: str | None) -> ExitCode:
    from jumpstarter_proto.remote import read_claims  # noqa: PLC0415

    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415
    from jumpstarter_client.controller.client_login import check  # noqa: PLC0415
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415

    refusal: JumpstarterError | None = None
    try:
        run(partial(check, config))
    except JumpstarterError as error:
        refusal = error
    config = load(name, os.environ)  # a token that was about to end has been renewed for the call
    claims = read_claims(config.identity.token)
    left = claims.left
    if output:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415

        until = None if claims.expires is None else datetime.fromtimestamp(claims.expires, UTC).isoformat()
        data = {
            "file": str(config.path) if config.path else None,
            "endpoint": config.endpoint,
            "namespace": config.identity.namespace,
            "name": config.identity.name,
            "issuer": claims.issuer,
            "expires": until,
            "seconds_left": None if left is None else int(left),
            "accepted": refusal is None,
            "error": str(refusal) if refusal else None,
        }
        write_data(data, output)
    else:
        from jumpstarter_client.times import format_duration, when  # noqa: PLC0415

        issuer = "the controller" if claims.is_own else claims.issuer or "nobody knows whom"
        until = ""
        if claims.expires is not None and left is not None:
            span = f"{format_duration(left)} left" if left > 0 else f"over since {format_duration(-left)}"
            until = f", until {when(claims.expires)} ({span})"
        rows = {
            "client": f"{config.identity.namespace}/{config.identity.name}",
            "controller": config.endpoint,
            "file": config.path or "(the environment)",
            "token": f"of {issuer}{until}",
            "accepted": f"no: {refusal}" if refusal else "yes",
        }
        for key, value in rows.items():
            print_line(f"{key + ':':<12} {value}")
    return ExitCode(refusal.exit_code) if refusal else ExitCode.OK


def _rotate(config: ClientConfig) -> ExitCode:
    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415
    from jumpstarter_client.controller.controller_client import ControllerClient  # noqa: PLC0415
    from jumpstarter_client.identity.client_config import replace_tokens  # noqa: PLC0415
    from jumpstarter_client.times import when  # noqa: PLC0415

    path = config.path
    if path is None:
        raise UsageError("the token is in the environment, where it cannot be replaced; use a configuration")

    async def rotate() -> tuple[str, float]:
        async with ControllerClient(config).open() as controller:
            return await controller.rotate_token()

    # A file that cannot be written is found now, not when the old token has gone.
    replace_tokens(path, config.identity.token)
    token, expires = run(rotate)
    replace_tokens(path, token)
    print_line(f"{path}: a new token, until {when(expires)}; the one before counts for a day more")
    return ExitCode.OK


def _refresh(config: ClientConfig) -> ExitCode:
    from jumpstarter_proto.remote import read_claims  # noqa: PLC0415

    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415
    from jumpstarter_client.controller.token_renewal import renewed  # noqa: PLC0415
    from jumpstarter_client.times import when  # noqa: PLC0415

    found = run(partial(renewed, config))
    expires = read_claims(found.identity.token).expires
    until = "" if expires is None else f", until {when(expires)}"
    print_line(f"{config.path}: a new token{until}")
    return ExitCode.OK
