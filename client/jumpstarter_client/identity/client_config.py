"""Client configurations, in the files and the environment variables of Jumpstarter's own client.

Files are read strictly: an unknown key is an error with its line. A value in the file takes precedence over the
environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jumpstarter_proto.addresses import CONTROLLER_PORT, AddressSyntaxError, split_host_port
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.private_files import write_private
from jumpstarter_proto.regular_files import open_input
from jumpstarter_proto.remote import KEEPALIVE, Identity, Kind, Trust, options_of
from jumpstarter_proto.rpc import Options
from jumpstarter_proto.yaml_files import set_values

if TYPE_CHECKING:
    from jumpstarter_proto.yaml_files import Document

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
_MINIMUM_SECONDS = {"acquisition_timeout": 5.0, "dial_timeout": 5.0, "retry_timeout": 0.0}
_TRUE = ("1", "true", "yes", "on")


class ClientConfigError(JumpstarterError):
    """There is no client configuration, or it is invalid."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class ClientConfig:
    """A controller, the identity of the client there, and timeouts in seconds."""

    endpoint: str
    identity: Identity
    trust: Trust
    allow: tuple[str, ...] = ()
    """Patterns of the client classes of other packages that may be loaded."""
    unsafe: bool = False
    """All client classes may be loaded."""
    acquisition_timeout: float = ACQUISITION_SECONDS
    """How long to wait for a lease."""
    dial_timeout: float = DIAL_SECONDS
    """How long to try to connect to a board."""
    retry_timeout: float = RETRY_SECONDS
    """How long to lease other boards if one is not reachable; 0 means not at all."""
    options: Options = KEEPALIVE
    """Keep-alive options for the controller and routers."""
    refresh_token: str = field(default="", repr=False)
    """The refresh token of an OpenID provider."""
    path: Path | None = field(default=None, compare=False)
    """The file of the configuration."""

    def allowed(self) -> Allowed:
        """Return which client classes of a leased board may be loaded."""
        from jumpstarter_client.node import Allowed  # noqa: PLC0415 - many only ask the controller

        return Allowed(self.allow, unsafe=self.unsafe)


def config_home(environment: Mapping[str, str]) -> Path:
    """Return the folder of all configurations."""
    if home := environment.get("JMP_CLIENT_CONFIG_HOME"):
        return user_path(home)
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "jumpstarter"


def load(name: str | None, environment: Mapping[str, str]) -> ClientConfig:
    """Load the configuration with that alias or file.

    None means the one that JMP_CLIENT_CONFIG (a file) or JMP_CLIENT (an alias) names, or the environment's own, or else
    the current one.

    Raises:
        ClientConfigError: there is none, or a value is missing; the message says what to do.
        ConfigError: the file is invalid; the message has the line.
    """
    home = config_home(environment)
    name = name or environment.get("JMP_CLIENT_CONFIG") or environment.get("JMP_CLIENT")
    if name is None and environment.get("JMP_NAMESPACE") and environment.get("JMP_NAME"):
        return _build_config({}, {}, environment, "the environment", None)
    if name is None:
        name = _current(home)
    path = user_path(name) if "/" in name or name.endswith((".yaml", ".yml")) else None
    path = path or home / "clients" / f"{name}.yaml"
    texts, sections = _read(path)
    return _build_config(texts, sections, environment, str(path), path)


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
    """Read the top-level texts of a file, and its sections, without missing and null values."""
    from jumpstarter_proto.yaml_files import Document, check_keys, check_value  # noqa: PLC0415

    if not path.exists():
        raise ClientConfigError(f"no configuration {path}; name another one with --client")
    document = Document(path, "endpoint")
    data = document.data
    check_keys(document, data, frozenset((*_TEXTS, *_SECTIONS)), ())
    kind = data.get("kind", "ClientConfig")
    if kind != "ClientConfig":
        raise document.error(
            ("kind",), f"this is a {kind}, not a client configuration; name a client configuration"
        )
    texts = {}
    for key in _TEXTS:
        if data.get(key) is not None:
            texts[key] = check_value(document, data[key], str, (key,))
    return texts, {key: _section(document, key) for key in _SECTIONS if data.get(key) is not None}


def _section(document: Document, key: str) -> dict[str, Any]:
    from jumpstarter_proto.yaml_files import check_keys, check_value, kind_of  # noqa: PLC0415

    given, known = document.data[key], _SECTIONS[key]
    if not isinstance(given, dict):
        raise document.error((key,), f"`{key}` must be a mapping, not {kind_of(given)}; see docs/cli.md")
    if not known:
        return given  # gRPC options; most are for the gRPC library and have no effect here
    check_keys(document, given, known, (key,))
    found = {name: check_value(document, value, known[name], (key, name)) for name, value in given.items()}
    for name, least in _MINIMUM_SECONDS.items():
        if found.get(name, least) < least:
            raise document.error((key, name), f"{found[name]:g} s is too short; use at least {least:g}")
    return found


def _from_environment(key: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read a section from its environment variable, in JSON."""
    from jumpstarter_proto.yaml_files import convert, dotted, explained, nearest  # noqa: PLC0415

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
        raise ClientConfigError(f'{variable} is not a JSON object; write for example {{"{example}": …}}')
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
            sentence, inner = explained(str(error), value, known[name], (name,))
            raise ClientConfigError(f"{variable}: {dotted((name, *inner))}: {sentence}") from None
    return found


def _build_config(
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
            # Without the rest, nobody knows where and as whom.
            login = "jumpstarter login" if key == "token" else "jumpstarter login HOST:PORT"
            raise ClientConfigError(
                f"{source}: `{key}` is missing; log in again with `{login}`, or set {variable}"
                if path
                else f"JMP_NAME and JMP_NAMESPACE are set, but {variable} is not; set it, too"
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
        if not found >= _MINIMUM_SECONDS[key]:
            raise ClientConfigError(
                f"invalid {variable} {given!r}; use a number of seconds, at least {_MINIMUM_SECONDS[key]:g}"
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
    """Split a text at its commas; a list stays."""
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping without checking its keys. ClientConfigError if the file is missing or invalid."""
    import yaml  # noqa: PLC0415 - local use needs none
    from jumpstarter_proto.yaml_files import MAX_BYTES, load_text  # noqa: PLC0415

    try:
        with open_input(path) as file:
            document = load_text(file.read(MAX_BYTES + 1).decode())
    except FileNotFoundError:
        raise ClientConfigError(f"no configuration {path}; name another one with --client") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ClientConfigError(f"{path} cannot be read as a configuration: {error}") from None
    if not isinstance(document, dict):
        raise ClientConfigError(f"{path} is not a configuration; it must have keys such as `endpoint`")
    return document


def replace_tokens(path: Path, token: str, refresh_token: str = "") -> None:
    """Replace the tokens in a configuration file; all else stays. PrivateFileError if it is not writable."""
    changes: dict[tuple[str, ...], str | bool] = {("token",): token}
    if refresh_token:
        changes[("refresh_token",)] = refresh_token
    write_private(path, set_values(path.read_text(encoding="utf-8"), changes).encode())
