"""The client configuration files of a user, by alias, compatible with Jumpstarter's own client."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.remote import split_endpoint
from jumpstarter_proto.yaml_files import ConfigError, set_values

from jumpstarter_client.identity.client_config import ClientConfig, ClientConfigError, load, read_yaml

__all__ = ["ConfigFiles", "replace_login", "require_writable"]

_HOME = "JMP_CLIENT_CONFIG_HOME"
SUFFIX = ".yaml"
API_VERSION = "jumpstarter.dev/v1alpha1"


class ConfigFiles:
    """`clients/ALIAS.yaml` below `home`, and `config.yaml`, which names the current one.

    Every file is readable for its owner only, and is written atomically.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "clients"
        self._user = home / "config.yaml"

    def path(self, alias: str) -> Path:
        """Return the path of a configuration, which may not exist. ClientConfigError if the alias is invalid."""
        # Jumpstarter treats everything after the first dot as the suffix of the file.
        if not alias or alias[0] == "-" or any(c in "/." or not c.isprintable() for c in alias):
            raise ClientConfigError(
                f"{alias!r} is not a valid configuration name; use letters, digits and '-'"
            )
        return self._folder / safe_name(alias, SUFFIX)

    def aliases(self) -> list[str]:
        """Return all aliases, sorted."""
        return sorted(file.stem for file in self._folder.glob(f"*{SUFFIX}") if not file.name.startswith("."))

    def current(self) -> str | None:
        """Return the alias of the current configuration; None if there is none or its file is missing."""
        inner = self._settings().get("config")
        alias = inner.get("current-client") if isinstance(inner, dict) else None
        return (
            alias if isinstance(alias, str) and (self._folder / safe_name(alias, SUFFIX)).exists() else None
        )

    def save(self, alias: str, config: ClientConfig, *, keeps_drivers: bool = False) -> Path:
        """Write a configuration; the first one becomes the current one.

        In an existing file only the identity, the controller and the allowed drivers are changed, the drivers only
        without `keeps_drivers`. Other settings and comments stay. The format has no pinned fingerprint: pass the
        certificate as `ca`.

        Raises:
            PrivateFileError: the file is not writable.
            ClientConfigError: the alias is invalid.
        """
        path = self.path(alias)
        only = not self.aliases()
        existing = _configuration(path)
        self._write(path, document(config) if existing is None else _changed(existing, config, keeps_drivers))
        if only or self.current() is None:
            self.use(alias)
        return path

    def free_alias(self, config: ClientConfig) -> str:
        """Return a free alias: the name of the client, with the name of the host if the first is taken."""
        name = safe_name(config.identity.name.replace(".", "-"))
        if not self._is_taken(name, config):
            return name
        host, _ = split_endpoint(config.endpoint)
        longer = f"{name}-{re.sub('[^A-Za-z0-9-]+', '-', host)}".rstrip("-")
        number = 2
        alias = longer
        while self._is_taken(alias, config):
            alias, number = f"{longer}-{number}", number + 1
        return alias

    def _is_taken(self, alias: str, config: ClientConfig) -> bool:
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
        """Make a configuration the current one. ClientConfigError if it does not exist."""
        self._existing(alias)
        self._set_current(alias)

    def delete(self, alias: str) -> Path:
        """Delete a configuration; afterwards it is not the current one. ClientConfigError if it does not exist."""
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
                f"no configuration {alias!r}; " + (f"there is {there}" if there else "log in first")
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

        _make_folder(path.parent)
        if not isinstance(content, str):
            content = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_private(path, content.encode())


def require_writable(path: Path) -> None:
    """Check that a configuration can be written there, for who is about to use up a code, and make its folder.

    Raises:
        PrivateFileError: it cannot be written.
    """
    import tempfile  # noqa: PLC0415 - only who logs in pays

    _make_folder(path.parent)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PrivateFileError(
            f"no file can be made in {path.parent}: {error.strerror}; choose another place with {_HOME}"
        ) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PrivateFileError(
            f"{folder} cannot be made: {error.strerror}; choose another place with {_HOME}"
        ) from None


def replace_login(path: Path, config: ClientConfig, *, trust: bool) -> None:
    """Put the tokens of a new login into a configuration file, and `tls` if wanted. All else stays.

    Raises:
        PrivateFileError: the file is not writable.
    """
    text = path.read_text(encoding="utf-8")
    changes: dict[tuple[str, ...], str | bool] = {("token",): config.identity.token}
    if config.refresh_token or "refresh_token" in text:
        changes["refresh_token",] = config.refresh_token
    if trust:
        changes |= {("tls", "ca"): config.trust.ca, ("tls", "insecure"): config.trust.insecure}
    write_private(path, set_values(text, changes).encode())


def document(config: ClientConfig) -> dict[str, Any]:
    """Return the content of a configuration file. Jumpstarter 0.9 rejects any other keys."""
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
    """Return the text of a valid configuration file; None otherwise."""
    try:
        load(str(path), {})
        return path.read_text(encoding="utf-8")
    except (ClientConfigError, ConfigError, OSError, ValueError):
        return None


def _changed(text: str, config: ClientConfig, keeps_drivers: bool) -> str:
    """Return the text with the identity and tokens of `config`."""
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
    return set_values(text, changes)
