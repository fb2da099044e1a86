"""The client configurations of a home, by alias, in the files that Jumpstarter's own client has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jumpstarter_proto.documents import ConfigError, edited
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.remote import split_endpoint

from jumpstarter_client.identity.client_config import ClientConfig, ClientConfigError, load, read_yaml

__all__ = ["ConfigFiles"]

SUFFIX = ".yaml"
API_VERSION = "jumpstarter.dev/v1alpha1"


class ConfigFiles:
    """`clients/ALIAS.yaml` below `home`, and `config.yaml`, which names the current one.

    Every file is for its owner only, and whole or not there.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "clients"
        self._user = home / "config.yaml"

    def path(self, alias: str) -> Path:
        """Where it is, or would be. ClientConfigError if that is no alias."""
        # Jumpstarter takes everything from the first dot on for the file's suffix.
        if not alias or alias[0] == "-" or any(c in "/." or not c.isprintable() for c in alias):
            raise ClientConfigError(f"{alias!r} is no name for a configuration; use letters, digits and '-'")
        return self._folder / safe_name(alias, SUFFIX)

    def aliases(self) -> list[str]:
        """All, in alphabetical order."""
        return sorted(file.stem for file in self._folder.glob(f"*{SUFFIX}") if not file.name.startswith("."))

    def current(self) -> str | None:
        """Which one counts where none is named; None also if it names one that is not there."""
        inner = self._settings().get("config")
        alias = inner.get("current-client") if isinstance(inner, dict) else None
        return (
            alias if isinstance(alias, str) and (self._folder / safe_name(alias, SUFFIX)).exists() else None
        )

    def save(self, alias: str, config: ClientConfig, *, keeps_drivers: bool = False) -> Path:
        """Write one; the first one becomes the current one.

        In a file of that alias that exists, only who the client is, where its controller is and which drivers are
        allowed is changed, and the last not if it `keeps_drivers`. The rest is its owner's, comments too.
        A pinned fingerprint cannot be kept in such a file: give the certificate as `ca`.

        Raises:
            PrivateFileError: it cannot be written.
            ClientConfigError: that is no alias.
        """
        path = self.path(alias)
        only = not self.aliases()
        there = _configuration(path)
        self._write(path, document(config) if there is None else _changed(there, config, keeps_drivers))
        if only or self.current() is None:
            self.use(alias)
        return path

    def free_alias(self, config: ClientConfig) -> str:
        """What to call a configuration: as its client, if nobody else has that alias, else with the host's name."""
        name = safe_name(config.identity.name.replace(".", "-"))
        if not self._is_others(name, config):
            return name
        host, _ = split_endpoint(config.endpoint)
        longer = f"{name}-{re.sub('[^A-Za-z0-9-]+', '-', host)}".rstrip("-")
        number = 2
        alias = longer
        while self._is_others(alias, config):
            alias, number = f"{longer}-{number}", number + 1
        return alias

    def _is_others(self, alias: str, config: ClientConfig) -> bool:
        path = self.path(alias)
        if not path.exists():
            return False
        try:
            there = load(str(path), {})
        except (ClientConfigError, ConfigError):
            return True
        same = (there.endpoint, there.identity.namespace, there.identity.name)
        return same != (config.endpoint, config.identity.namespace, config.identity.name)

    def use(self, alias: str) -> None:
        """Make it the current one. ClientConfigError if there is no such alias."""
        self._existing(alias)
        self._set_current(alias)

    def delete(self, alias: str) -> Path:
        """Remove one; if it was the current one, there is none from then on. ClientConfigError if there is none."""
        path = self._existing(alias)
        was_current = self.current() == alias
        path.unlink()
        if was_current:
            self._set_current(None)
        return path

    def _existing(self, alias: str) -> Path:
        path = self.path(alias)
        if not path.exists():
            there = ", ".join(self.aliases())
            raise ClientConfigError(
                f"there is no configuration {alias!r}; " + (f"there is {there}" if there else "log in first")
            )
        return path

    def _settings(self) -> dict[str, Any]:
        return read_yaml(self._user) if self._user.exists() else {}

    def _set_current(self, alias: str | None) -> None:
        settings = {"apiVersion": API_VERSION, "kind": "UserConfig", **self._settings()}
        inner = settings.get("config")
        settings["config"] = {**(inner if isinstance(inner, dict) else {}), "current-client": alias}
        self._write(self._user, settings)

    @staticmethod
    def _write(path: Path, content: dict[str, Any] | str) -> None:
        import yaml  # noqa: PLC0415 - only who changes something pays

        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PrivateFileError(f"{path.parent} cannot be made: {error.strerror}") from None
        if not isinstance(content, str):
            content = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_private(path, content.encode())


def document(config: ClientConfig) -> dict[str, Any]:
    """A client configuration as its file has it (other keys than these are refused by Jumpstarter 0.9)."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ClientConfig",
        "metadata": {"namespace": config.identity.namespace, "name": config.identity.name},
        "endpoint": config.endpoint,
        "tls": {"ca": config.trust.ca, "insecure": config.trust.insecure},
        "token": config.identity.token,
        **({"refresh_token": config.refresh_token} if config.refresh_token else {}),
        "grpcOptions": {},
        "drivers": {"allow": list(config.allow), "unsafe": config.unsafe},
    }


def _configuration(path: Path) -> str | None:
    """The text of a file with a client configuration; None if there is none that could be kept."""
    try:
        load(str(path), {})
        return path.read_text(encoding="utf-8")
    except (ClientConfigError, ConfigError, OSError, ValueError):
        return None


def _changed(text: str, config: ClientConfig, keeps_drivers: bool) -> str:
    """That file with another client, or another token, in it."""
    identity = config.identity
    changes: dict[tuple[str, ...], str | bool | list[str]] = {
        ("metadata", "namespace"): identity.namespace,
        ("metadata", "name"): identity.name,
        ("endpoint",): config.endpoint,
        ("tls", "ca"): config.trust.ca,
        ("tls", "insecure"): config.trust.insecure,
        ("token",): identity.token,
    }
    if config.refresh_token or "refresh_token" in text:
        changes["refresh_token",] = config.refresh_token
    if not keeps_drivers:
        changes |= {("drivers", "allow"): list(config.allow), ("drivers", "unsafe"): config.unsafe}
    return edited(text, changes)
