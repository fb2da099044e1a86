"""Client configurations: the files that Jumpstarter's own client has, and its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import Identity, Kind, Trust

__all__ = ["ClientConfig", "ClientConfigError", "config_home", "load", "read_yaml"]


class ClientConfigError(JumpstarterError):
    """There is no client configuration, or it makes no sense."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class ClientConfig:
    """A controller, and who we are to it."""

    endpoint: str
    identity: Identity
    trust: Trust
    acquisition_timeout: float = 7200.0
    """Seconds to wait for a board."""


def config_home(environment: Mapping[str, str]) -> Path:
    """The folder of all configurations."""
    if home := environment.get("JMP_CLIENT_CONFIG_HOME"):
        return Path(home)
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "jumpstarter"


def load(name: str | None, environment: Mapping[str, str]) -> ClientConfig:
    """The configuration of that alias or file; None: the environment's own, else the current one.

    Raises:
        ClientConfigError: there is none; says where it was looked for and what to do.
    """
    home = config_home(environment)
    if name is None and environment.get("JMP_NAMESPACE") and environment.get("JMP_NAME"):
        return _from_environment(environment)
    if name is None:
        name = _current(home)
    path = (
        Path(name) if "/" in name or name.endswith((".yaml", ".yml")) else home / "clients" / f"{name}.yaml"
    )
    return _read(path, environment)


def _from_environment(environment: Mapping[str, str]) -> ClientConfig:
    missing = [key for key in ("JMP_ENDPOINT", "JMP_TOKEN") if not environment.get(key)]
    if missing:
        raise ClientConfigError(
            f"JMP_NAME and JMP_NAMESPACE are set, but not {' and '.join(missing)}; set them too"
        )
    insecure = any(environment.get(key) == "1" for key in ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"))
    return ClientConfig(
        environment["JMP_ENDPOINT"],
        Identity(
            Kind.CLIENT, environment["JMP_NAMESPACE"], environment["JMP_NAME"], environment["JMP_TOKEN"]
        ),
        Trust(insecure=insecure),
    )


def _current(home: Path) -> str:
    config = read_yaml(home / "config.yaml") if (home / "config.yaml").exists() else {}
    inner = config.get("config")
    alias = inner.get("current-client") if isinstance(inner, dict) else None
    if isinstance(alias, str) and alias:
        return alias
    raise ClientConfigError(
        "a board of a controller is wanted, but nobody said who you are to it; name your configuration with "
        f"--client FILE, or put it into {home / 'clients'} and its name into {home / 'config.yaml'}"
    )


def _read(path: Path, environment: Mapping[str, str]) -> ClientConfig:
    document = read_yaml(path)
    if document.get("kind", "ClientConfig") != "ClientConfig":
        raise ClientConfigError(f"{path} is no client's configuration but a {document.get('kind')}")
    metadata = _section(path, document, "metadata")
    tls = _section(path, document, "tls")

    def text(section: dict[str, Any], key: str, fallback: str) -> str:
        value = section.get(key) or environment.get(fallback, "")
        if not isinstance(value, str) or not value:
            raise ClientConfigError(f"{path}: `{key}` is missing or no text; fetch the configuration again")
        return value

    insecure = bool(tls.get("insecure")) or any(
        environment.get(key) == "1" for key in ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE")
    )
    return ClientConfig(
        text(document, "endpoint", "JMP_ENDPOINT"),
        Identity(
            Kind.CLIENT,
            text(metadata, "namespace", "JMP_NAMESPACE"),
            text(metadata, "name", "JMP_NAME"),
            text(document, "token", "JMP_TOKEN"),
        ),
        Trust(ca=str(tls.get("ca") or ""), insecure=insecure),
    )


def _section(path: Path, document: dict[str, Any], key: str) -> dict[str, Any]:
    section = document.get(key) or {}
    if not isinstance(section, dict):
        raise ClientConfigError(f"{path}: `{key}` has to have keys of its own")
    return section


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file. ClientConfigError if there is none."""
    import yaml  # noqa: PLC0415 - local use needs none

    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ClientConfigError(f"there is no configuration {path}; name another with --client") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ClientConfigError(f"{path} cannot be read as a configuration: {error}") from None
    if not isinstance(document, dict):
        raise ClientConfigError(f"{path} is no configuration; it has to have keys such as `endpoint`")
    return document
