"""`jumpstarter auth …`: show or replace the token for a controller."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import read_claims
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import write_data
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.controller.client_login import check_token
from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.controller.token_renewal import refresh_tokens
from jumpstarter_client.identity.client_config import load, replace_tokens
from jumpstarter_client.times import format_duration, format_time

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["auth"]

_VERBS = ("status", "rotate", "refresh")


def auth(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command. The exit code is DENIED if the controller rejects the token."""
    verb, *rest = arguments
    if verb not in _VERBS:
        raise UsageError(f"`auth` has no verb {verb!r}{nearest(verb, _VERBS)}")
    output, rest = take_output(rest, ("json", "yaml"))
    parsed = parse_arguments(f"auth {verb}", rest)
    if parsed.words:
        raise UsageError(f"`auth {verb}` takes no {parsed.words[0]!r}; name a configuration with --client")

    config = load(options.client, os.environ)
    if verb == "rotate":
        return _rotate(config)
    if verb == "refresh":
        return _refresh(config)
    return _status(config, options.client, output or options.output)


def _status(config: ClientConfig, name: str | None, output: str | None) -> ExitCode:

    refusal: JumpstarterError | None = None
    try:
        run_trio(partial(check_token, config))
    except JumpstarterError as error:
        refusal = error
    config = load(name, os.environ)  # the call may have renewed a token that was about to expire
    claims = read_claims(config.identity.token)
    left = claims.left
    if output:
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
        issuer = "the controller" if claims.is_own else claims.issuer or "unknown"
        until = ""
        if claims.expires is not None and left is not None:
            span = f"{format_duration(left)} left" if left > 0 else f"expired {format_duration(-left)} ago"
            until = f", until {format_time(claims.expires)} ({span})"
        rows = {
            "client": f"{config.identity.namespace}/{config.identity.name}",
            "controller": config.endpoint,
            "file": config.path or "(the environment)",
            "token": f"issued by {issuer}{until}",
            "accepted": f"no: {refusal}" if refusal else "yes",
        }
        for key, value in rows.items():
            print_line(f"{key + ':':<12} {value}")
    return ExitCode(refusal.exit_code) if refusal else ExitCode.OK


def _rotate(config: ClientConfig) -> ExitCode:

    path = config.path
    if path is None:
        raise UsageError(
            "the token comes from the environment and cannot be replaced there; use a client configuration"
        )

    async def rotate() -> tuple[str, float]:
        async with ControllerClient(config).open() as controller:
            return await controller.rotate_token()

    # If the file cannot be written, fail before the old token is replaced.
    replace_tokens(path, config.identity.token)
    token, expires = run_trio(rotate)
    replace_tokens(path, token)
    print_line(f"{path}: new token, valid until {format_time(expires)}; the old one stays valid for one day")
    return ExitCode.OK


def _refresh(config: ClientConfig) -> ExitCode:

    found = run_trio(partial(refresh_tokens, config))
    expires = read_claims(found.identity.token).expires
    until = "" if expires is None else f", valid until {format_time(expires)}"
    print_line(f"{config.path}: new token{until}")
    return ExitCode.OK
