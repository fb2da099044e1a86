"""Client configurations: the files that Jumpstarter's own client has, and its environment.

A file is read strictly: a key that is not known there is an error at its line. What a file leaves out the
environment may have; what a file says counts before it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jumpstarter_proto.addresses import CONTROLLER_PORT, AddressSyntaxError, split_host_port
from jumpstarter_proto.documents import edited
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.private_files import write_private
from jumpstarter_proto.remote import KEEPALIVE, Identity, Kind, Trust, options_of
from jumpstarter_proto.rpc import Options

if TYPE_CHECKING:
    from jumpstarter_proto.documents import Document

    from jumpstarter_client.node import Allowed

__all__ = ["ClientConfig", "ClientConfigError", "config_home", "load", "read_yaml", "replace_tokens"]

ACQUISITION_SECONDS = 7200.0
DIAL_SECONDS = 60.0
RETRY_SECONDS = 300.0

_SECTIONS: dict[str, dict[str, Any]] = {
    "metadata": {"namespace": str | None, "name": str | None},
    "tls": {"ca": str, "insecure": bool},
    "drivers": {"allow": list[str] | str, "unsafe": bool},
    "shell": {"use_profiles": bool},
    "leases": {"acquisition_timeout": float, "dial_timeout": float, "retry_timeout": float},
    "grpcOptions": {},
}
_TEXTS = ("apiVersion", "kind", "endpoint", "token", "refresh_token")
_LEAST = {"acquisition_timeout": 5.0, "dial_timeout": 5.0, "retry_timeout": 0.0}
_TRUE = ("1", "true", "yes", "on")


class ClientConfigError(JumpstarterError):
    """There is no client configuration, or it makes no sense."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class ClientConfig:
    """A controller, who we are to it, and how patient. Times in seconds."""

    endpoint: str
    identity: Identity
    trust: Trust
    allow: tuple[str, ...] = ()
    """Patterns of the client classes of other people's drivers that may be loaded."""
    unsafe: bool = False
    """All of them may."""
    acquisition_timeout: float = ACQUISITION_SECONDS
    """How long to wait for a board."""
    dial_timeout: float = DIAL_SECONDS
    """How long to try for one connection to it."""
    retry_timeout: float = RETRY_SECONDS
    """How long to lease others when a board turns out not to be reachable; 0 is not at all."""
    options: Options = KEEPALIVE
    """When a silent controller or router is given up."""
    refresh_token: str = field(default="", repr=False)
    """Of another issuer, for new tokens in place of old ones."""
    path: Path | None = field(default=None, compare=False)
    """The file that it is from."""

    def allowed(self) -> Allowed:
        """Which client classes of a leased board's drivers may be loaded."""
        from jumpstarter_client.node import Allowed  # noqa: PLC0415 - many only ask the controller

        return Allowed(self.allow, unsafe=self.unsafe)


def config_home(environment: Mapping[str, str]) -> Path:
    """The folder of all configurations."""
    if home := environment.get("JMP_CLIENT_CONFIG_HOME"):
        return Path(home).expanduser()
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "jumpstarter"


def load(name: str | None, environment: Mapping[str, str]) -> ClientConfig:
    """The configuration of that alias or file.

    None: the one that JMP_CLIENT_CONFIG (a file) or JMP_CLIENT (an alias) names, the environment's own, else the
    current one.

    Raises:
        ClientConfigError: there is none, or something is missing; says where it was looked for and what to do.
        ConfigError: the file has what does not belong there; says where.
    """
    home = config_home(environment)
    name = name or environment.get("JMP_CLIENT_CONFIG") or environment.get("JMP_CLIENT")
    if name is None and environment.get("JMP_NAMESPACE") and environment.get("JMP_NAME"):
        return _made({}, {}, environment, "the environment", None)
    if name is None:
        name = _current(home)
    path = Path(name).expanduser() if "/" in name or name.endswith((".yaml", ".yml")) else None
    path = path or home / "clients" / f"{name}.yaml"
    texts, sections = _read(path)
    return _made(texts, sections, environment, str(path), path)


def _current(home: Path) -> str:
    config = read_yaml(home / "config.yaml") if (home / "config.yaml").exists() else {}
    inner = config.get("config")
    alias = inner.get("current-client") if isinstance(inner, dict) else None
    if isinstance(alias, str) and alias:
        return alias
    raise ClientConfigError(
        "no client configuration: log in with `jumpstarter login HOST:PORT`, pass --client FILE, or put a "
        f"configuration into {home / 'clients'}"
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The texts at the top of a file, and its sections; what is not there or null is left out."""
    from jumpstarter_proto.documents import Document, check_keys, check_value  # noqa: PLC0415

    if not path.exists():
        raise ClientConfigError(f"there is no configuration {path}; name another with --client")
    document = Document(path, "endpoint")
    data = document.data
    check_keys(document, data, frozenset((*_TEXTS, *_SECTIONS)), ())
    kind = data.get("kind", "ClientConfig")
    if kind != "ClientConfig":
        raise document.error(
            ("kind",), f"this is no client's configuration but a {kind}; give that of a client"
        )
    texts = {}
    for key in _TEXTS:
        if data.get(key) is not None:
            texts[key] = check_value(document, data[key], str, (key,))
    return texts, {key: _section(document, key) for key in _SECTIONS if data.get(key) is not None}


def _section(document: Document, key: str) -> dict[str, Any]:
    from jumpstarter_proto.documents import check_keys, check_value, kind_of  # noqa: PLC0415

    given, known = document.data[key], _SECTIONS[key]
    if not isinstance(given, dict):
        raise document.error(
            (key,), f"`{key}` has keys of its own, and this is {kind_of(given)}; see docs/cli.md"
        )
    if not known:
        return given  # gRPC's options, of which all but two tune a library that is not ours
    check_keys(document, given, known, (key,))
    found = {name: check_value(document, value, known[name], (key, name)) for name, value in given.items()}
    for name, least in _LEAST.items():
        if found.get(name, least) < least:
            raise document.error((key, name), f"this is {found[name]:g} s; give at least {least:g}")
    return found


def _from_environment(key: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """A section as its variable has it, in JSON."""
    from jumpstarter_proto.documents import convert, nearest  # noqa: PLC0415

    variable, known = f"JMP_{key.upper()}", _SECTIONS[key]
    text = environment.get(variable)
    if not text:
        return {}
    try:
        given = parse_json(text)
    except ValueError as error:
        raise ClientConfigError(f"{variable} is not JSON: {error}; quote it for the shell") from None
    if not isinstance(given, dict):
        example = next(iter(known), "grpc.keepalive_time_ms")
        raise ClientConfigError(f'{variable} is no JSON object; write for example {{"{example}": …}}')
    found = {}
    for name, value in given.items():
        if not known:
            found[name] = value
            continue
        if name not in known:
            raise ClientConfigError(f"{variable}: unknown key {name!r}; {nearest(name, known)}")
        try:
            found[name] = convert(value, known[name])
        except ValueError as error:
            raise ClientConfigError(f"{variable}: {name}: {error}; change the value") from None
    return found


def _made(
    texts: dict[str, str],
    sections: dict[str, dict[str, Any]],
    environment: Mapping[str, str],
    source: str,
    path: Path | None,
) -> ClientConfig:
    def section(key: str) -> dict[str, Any]:
        return _from_environment(key, environment) | sections.get(key, {})

    def text(value: object, key: str, variable: str) -> str:
        found = value or environment.get(variable)
        if not found:
            raise ClientConfigError(
                f"{source}: `{key}` is missing; fetch the configuration again, or set {variable}"
                if path
                else f"JMP_NAME and JMP_NAMESPACE are set, but not {variable}; set it, too"
            )
        return str(found)

    def seconds(key: str, variable: str, default: float) -> float:
        given = section("leases").get(key, environment.get(variable))
        if given is None or given == "":
            return default
        try:
            found = float(given)
        except ValueError:
            found = -1.0
        if not found >= _LEAST[key]:
            raise ClientConfigError(
                f"{variable} is {given!r}; give a number of seconds, at least {_LEAST[key]:g}"
            )
        return found

    metadata, tls, drivers = section("metadata"), section("tls"), section("drivers")
    insecure = any(environment.get(key) == "1" for key in ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"))
    allow = _patterns(drivers.get("allow", environment.get("JMP_DRIVERS_ALLOW", "")))
    unsafe = drivers.get("unsafe", environment.get("JMP_DRIVERS_UNSAFE", "").lower() in _TRUE)
    endpoint = text(texts.get("endpoint"), "endpoint", "JMP_ENDPOINT")
    try:
        split_host_port(endpoint, default_port=CONTROLLER_PORT)
    except AddressSyntaxError as error:
        raise ClientConfigError(f"{path or 'JMP_ENDPOINT'}: endpoint: {error}") from None
    return ClientConfig(
        endpoint,
        Identity(
            Kind.CLIENT,
            text(metadata.get("namespace"), "metadata.namespace", "JMP_NAMESPACE"),
            text(metadata.get("name"), "metadata.name", "JMP_NAME"),
            text(texts.get("token"), "token", "JMP_TOKEN"),
        ),
        Trust(ca=tls.get("ca") or "", insecure=tls.get("insecure", False) or insecure),
        allow=tuple(pattern for pattern in allow if pattern != "UNSAFE"),
        unsafe=unsafe or "UNSAFE" in allow,
        acquisition_timeout=seconds("acquisition_timeout", "JMP_ACQUISITION_TIMEOUT", ACQUISITION_SECONDS),
        options=options_of(section("grpcOptions")),
        dial_timeout=seconds("dial_timeout", "JMP_DIAL_TIMEOUT", DIAL_SECONDS),
        retry_timeout=seconds("retry_timeout", "JMP_RETRY_TIMEOUT", RETRY_SECONDS),
        refresh_token=texts.get("refresh_token") or environment.get("JMP_REFRESH_TOKEN", ""),
        path=path.absolute() if path else None,
    )


def _patterns(given: list[str] | str) -> list[str]:
    """A list, or a text with commas."""
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file of which others know what belongs there. ClientConfigError if there is none."""
    import yaml  # noqa: PLC0415 - local use needs none
    from jumpstarter_proto.documents import MAX_BYTES, load_text  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            document = load_text(file.read(MAX_BYTES + 1).decode())
    except FileNotFoundError:
        raise ClientConfigError(f"there is no configuration {path}; name another with --client") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ClientConfigError(f"{path} cannot be read as a configuration: {error}") from None
    if not isinstance(document, dict):
        raise ClientConfigError(f"{path} is no configuration; it has to have keys such as `endpoint`")
    return document


def replace_tokens(path: Path, token: str, refresh_token: str = "") -> None:
    """Put new tokens into a configuration; all else stays, comments too. PrivateFileError if it cannot be written."""
    changes: dict[tuple[str, ...], str | bool] = {("token",): token}
    if refresh_token:
        changes[("refresh_token",)] = refresh_token
    write_private(path, edited(path.read_text(encoding="utf-8"), changes).encode())
