"""`jumpstarter login`: log in to a controller and save the client configuration."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
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
from jumpstarter_client.controller.client_login import LoginOptions, NoProviderError
from jumpstarter_client.identity.client_config import config_home, load
from jumpstarter_client.identity.config_files import ConfigFiles, replace_login, require_writable
from jumpstarter_client.identity.oidc import LoginError
from jumpstarter_client.identity.rejected_token import pairing_steps

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["login"]

DEFAULT_ALLOWED = ("jumpstarter_driver_*",)
"""The client classes of Jumpstarter's own packages. An exporter cannot make this client load others."""
_USER_LOGIN = "passwords are typed on the page of the OpenID provider; remove it"
_FINGERPRINT = (
    "the certificate of a controller is pinned with --tls-fingerprint, which it prints at its start"
)
_EXPORTER = "exporters have their own program: jumpstarter-exporter enrol HOST:PORT"
_NOT_NEEDED = "it is not needed here; remove it"
_OPTIONS_OF_JMP = {
    "--token": "a token on a command line can be read by all users; send it to --name NAME on standard input, "
    "or use --token-file",
    "--username": _USER_LOGIN,
    "--password": _USER_LOGIN,
    "--connector-id": "tokens are not exchanged; log in at the provider, or with --name NAME and a token",
    "--insecure-tls": _FINGERPRINT,
    "-k": _FINGERPRINT,
    "--nointeractive": _NOT_NEEDED,
    "--offline-access": _NOT_NEEDED,
    "--no-offline-access": _NOT_NEEDED,
}
"""Options of the `login` of Jumpstarter 0.9, and what to do here instead."""


def login(arguments: list[str], options: GlobalOptions) -> int:
    """Run the command."""
    _refuse_options_of_jmp(arguments, options)
    parsed = parse_arguments("login", arguments, (*LOGIN, *LOGIN_BY_CODE, *LOGIN_BY_TOKEN, *LOGIN_BY_ISSUER))
    endpoint, name = _target(parsed)
    by_code = "--pairing-code" in parsed.flags or parsed.one("--code-file") is not None
    by_token = parsed.one("--token-file") is not None or parsed.one("--name") is not None
    by_issuer = any(parsed.one(option.field) or option.field in parsed.flags for option in LOGIN_BY_ISSUER)
    if by_code and (by_token or by_issuer or name):
        raise UsageError(
            "a pairing code already names the client; remove --name, --token-file and --issuer, or the code"
        )
    if parsed.one("--token-file") and by_issuer:
        raise UsageError("--token-file and a login at an issuer exclude each other; remove one of them")
    files = ConfigFiles(config_home(os.environ))
    if alias := parsed.one("--alias"):
        files.path(alias)  # an invalid alias fails before the code is used up
    before = None if endpoint else _configuration(options)
    request = _request(parsed, before, endpoint, name)
    if by_code:
        own = before.path if before is not None and not alias else None
        require_writable(own or files.path(alias or "new"))  # the code is not used up for nothing
    try:
        config = _log_in(parsed, request, by_code=by_code, by_token=by_token and not by_issuer)
    except NoProviderError as error:
        raise _without_provider(error, before, request) from None
    except RpcError as error:
        raise _with_usual_port(error, request.endpoint) from None

    keeps_drivers = "--allow" not in parsed.values and "--unsafe" not in parsed.flags
    if (
        before is not None
        and before.path is not None
        and not alias
        and keeps_drivers
        and _is_same(before, config)
    ):
        replace_login(before.path, config, trust=bool(request.trust.fingerprint))
        _print_result(before.path, config)
        return 0
    alias = alias or files.free_alias(config)
    allow = tuple(parsed.values.get("--allow", DEFAULT_ALLOWED))
    path = files.save(
        alias,
        replace(config, allow=allow, unsafe="--unsafe" in parsed.flags),
        keeps_drivers=keeps_drivers,
    )
    _print_result(path, config)
    if files.current() != alias:
        print_line(
            f"Use it with --client {alias}, or make it the current one: jumpstarter config client use {alias}"
        )
    return 0


def _refuse_options_of_jmp(arguments: list[str], options: GlobalOptions) -> None:
    if options.exporter or options.exporter_name or options.config:
        raise UsageError(f"`login` makes clients of a controller; {_EXPORTER}")
    for word in arguments:
        option = word.partition("=")[0]
        if option in _OPTIONS_OF_JMP:
            raise UsageError(f"`login` has no option {option}: {_OPTIONS_OF_JMP[option]}")


def _target(parsed: Arguments) -> tuple[str, str]:
    """Return the address of the controller and the name of the client: `HOST:PORT`, or `NAME@HOST:PORT` as in `jmp`."""
    given = [*parsed.words, *parsed.values.get("--endpoint", [])]
    if len(given) > 1:
        raise UsageError(
            "`login` takes one controller, as HOST:PORT; `jumpstarter login --help` shows examples"
        )
    name, at, endpoint = given[0].rpartition("@") if given else ("", "", "")
    if at and not (name and endpoint):
        raise UsageError(f"{given[0]!r} is not NAME@HOST:PORT; write for example ann@lab:8082")
    if at and parsed.one("--name") not in (None, name):
        raise UsageError(f"{given[0]} and --name are different clients; remove one of the names")
    return endpoint, name


def _configuration(options: GlobalOptions) -> ClientConfig:
    """The configuration whose controller is meant; its token may be missing."""
    before = load(options.client, {"JMP_TOKEN": "missing", **os.environ})
    if before.path is None:
        raise UsageError(
            "the controller is that of the environment (JMP_ENDPOINT), where no token can be replaced; use "
            f"`jumpstarter login {before.endpoint}`, and unset JMP_NAME and JMP_NAMESPACE"
        )
    return before


@dataclass(frozen=True)
class _Request:
    """Where to log in, and as whom."""

    endpoint: str
    trust: Trust
    namespace: str
    name: str
    issuer: str


def _request(parsed: Arguments, before: ClientConfig | None, endpoint: str, name: str) -> _Request:
    trust = Trust(fingerprint=parsed.one("--tls-fingerprint") or "")
    namespace, name = parsed.one("--namespace") or "", parsed.one("--name") or name
    if before is None:
        return _Request(endpoint, trust, namespace or "default", name, parsed.one("--issuer") or "")
    claims = read_claims(before.identity.token)
    return _Request(
        before.endpoint,
        trust if trust.fingerprint else before.trust,
        namespace or before.identity.namespace,
        name or before.identity.name,
        parsed.one("--issuer") or ("" if claims.is_own else claims.issuer),
    )


def _is_same(before: ClientConfig, config: ClientConfig) -> bool:
    one, other = before.identity, config.identity
    return (one.namespace, one.name) == (other.namespace, other.name)


def _without_provider(error: NoProviderError, before: ClientConfig | None, request: _Request) -> LoginError:
    """Return the error with the kinds of login that remain, as commands."""
    reason = str(error).partition(";")[0]
    if before is not None:
        return LoginError(f"{reason}; {pairing_steps(before)}")
    pin = f" --tls-fingerprint {request.trust.fingerprint}" if request.trust.fingerprint else ""
    login = f"jumpstarter login {request.endpoint}{pin}"
    return LoginError(
        f"{reason}; log in with a code from the lab's administrator: {login} --pairing-code, "
        f"or with a token: {login} --name {request.name or 'NAME'}"
    )


def _with_usual_port(error: RpcError, endpoint: str) -> RpcError:
    """Return an error that names the usual port, if nothing listens on that for an address without one."""
    reason = error.details.partition(";")[0]
    is_refused = error.code is StatusCode.UNAVAILABLE and reason.endswith(os.strerror(errno.ECONNREFUSED))
    if not is_refused or split_host_port(endpoint, default_port=0)[1]:
        return error
    return RpcError(
        error.code,
        f"{reason}; without a port it is {CONTROLLER_PORT}, and this project's controllers use 8082: "
        f"jumpstarter login {endpoint}:8082",
    )


def _print_result(path: Path, config: ClientConfig) -> None:
    who = f"{config.identity.namespace}/{config.identity.name}"
    print_line(f"{path}: client {who} of {config.endpoint}")


def _log_in(parsed: Arguments, request: _Request, *, by_code: bool, by_token: bool) -> ClientConfig:
    endpoint, trust = request.endpoint, request.trust
    split_endpoint(endpoint)  # an invalid address fails before the secret is typed
    if by_code:
        code = read_secret(
            "pairing code", file=_file(parsed, "--code-file"), variable="JMP_PAIRING_CODE", hidden=False
        )
        return run_trio(partial(client_login.enrol_with_code, endpoint, trust, code))
    if not by_token:
        login = _login(parsed, request)
        return run_trio(partial(client_login.log_in_with_issuer, endpoint, trust, login, _print_instruction))
    token = read_secret("token", file=_file(parsed, "--token-file"), variable="JMP_TOKEN")
    if not request.name:
        raise UsageError("no client named; add --name NAME")
    identity = Identity(Kind.CLIENT, request.namespace, request.name, token)
    return run_trio(partial(client_login.log_in_with_token, endpoint, trust, identity))


def _login(parsed: Arguments, request: _Request) -> LoginOptions:
    port = parsed.one("--callback-port") or "0"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--callback-port {port}: a port is a number from 0 to 65535")
    found = LoginOptions(
        issuer=request.issuer,
        namespace=request.namespace,
        name=request.name,
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
