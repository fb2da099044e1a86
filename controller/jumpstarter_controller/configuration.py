"""The controller's configuration file: what Jumpstarter's ConfigMap has below `config`, read strictly."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import msgspec
from jumpstarter_proto.durations import TimeFormatError, parse_duration
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.rpc import cause_of
from jumpstarter_proto.yaml_files import ConfigError, Document, read_struct

from jumpstarter_controller.identity.authenticate import PREFIX
from jumpstarter_controller.identity.oidc import IssuerSettings
from jumpstarter_controller.identity.tokens import ISSUER as OWN_ISSUER

__all__ = ["Configuration", "load", "unread"]

_log = logging.getLogger(__name__)
MAX_CA_BYTES = 1024 * 1024


class Username(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which claim names the user, and what stands in front of it, as objects have it in `username`."""

    claim: str
    prefix: str = ""


class ClaimMappings(msgspec.Struct, frozen=True):
    """Which claim of a token is the user name."""

    username: Username


class ClaimRule(msgspec.Struct, frozen=True, rename="camel"):
    """A claim that a token has to have, with that text."""

    claim: str
    required_value: str


class JwtIssuer(msgspec.Struct, frozen=True, rename="camel"):
    """An external issuer. A token must have at least one of the audiences."""

    url: str
    audiences: list[str]
    certificate_authority: str = ""
    """PEM, or the path of a file with it; the system's authorities if left out."""


class JwtAuthenticator(msgspec.Struct, frozen=True, rename="camel"):
    """As a Kubernetes API server's JWTAuthenticator, as far as it goes."""

    issuer: JwtIssuer
    claim_mappings: ClaimMappings
    claim_validation_rules: tuple[ClaimRule, ...] = ()


class Internal(msgspec.Struct, frozen=True, rename="camel"):
    """Our own tokens."""

    prefix: str = PREFIX
    token_lifetime: str = "8760h"  # noqa: S105 - a duration


class Kubernetes(msgspec.Struct, frozen=True):
    """Nobody reads it, in Jumpstarter's own controller neither."""

    enabled: bool = False


class Authentication(msgspec.Struct, frozen=True):
    """The issuers whose tokens are accepted."""

    internal: Internal = Internal()
    k8s: Kubernetes = Kubernetes()
    jwt: tuple[JwtAuthenticator, ...] = ()


class Provisioning(msgspec.Struct, frozen=True):
    """Whether an issuer's user becomes a client when they first call."""

    enabled: bool = False
    namespaces: tuple[str, ...] = ("default",)
    """Where."""


class ConfigurationFile(msgspec.Struct, frozen=True):
    """The file."""

    authentication: Authentication = Authentication()
    provisioning: Provisioning = Provisioning()
    grpc: dict[str, Any] = {}
    """Jumpstarter's has keep-alive times here; we take pings at any."""


class Configuration(msgspec.Struct, frozen=True):
    """The settings that the controller uses."""

    issuers: tuple[IssuerSettings, ...] = ()
    provisioned: frozenset[str] = frozenset()
    """The namespaces where an issuer's users become clients by themselves."""
    token_seconds: float | None = None


def load(file: Path) -> Configuration:
    """Read and check a file. ConfigError, with the place of what is wrong."""
    document = Document(file, "authentication")
    top = read_struct(document, ConfigurationFile, document.data)
    issuers: dict[str, IssuerSettings] = {}
    for index, one in enumerate(top.authentication.jwt):
        settings = _issuer(document, index, one)
        if settings.url in issuers:
            raise document.error(
                ("authentication", "jwt", index, "issuer", "url"), "this issuer is there twice; keep one"
            )
        issuers[settings.url] = settings
    if top.authentication.internal.prefix != PREFIX:
        raise document.error(
            ("authentication", "internal", "prefix"), f"the prefix of our own tokens is always {PREFIX}"
        )
    lifetime = top.authentication.internal.token_lifetime
    try:
        token_seconds = parse_duration(lifetime)
    except TimeFormatError as error:
        raise document.error(("authentication", "internal", "tokenLifetime"), str(error)) from None
    return Configuration(
        tuple(issuers.values()),
        frozenset(top.provisioning.namespaces) if top.provisioning.enabled else frozenset(),
        token_seconds,
    )


def unread(file: Path, read: Configuration) -> str:
    """Return a sentence about changes of the file since it was `read`; empty if it has not changed."""
    try:
        found = load(file)
    except ConfigError as error:
        return f"{error}; the values read at the start stay in use"
    if found == read:
        return ""
    return f"{file} has changed; restart the controller to have it read, which disturbs no lease"


def _issuer(document: Document, index: int, one: JwtAuthenticator) -> IssuerSettings:
    here = ("authentication", "jwt", index)
    url, username = one.issuer.url, one.claim_mappings.username
    if not url.startswith("https://") or "?" in url or "#" in url:
        raise document.error((*here, "issuer", "url"), "an issuer's URL begins with https://; correct it")
    if url.rstrip("/") == OWN_ISSUER:
        raise document.error(
            (*here, "issuer", "url"),
            f"{url} is the name of this controller's own tokens; leave the entry out",
        )
    if not one.issuer.audiences:
        raise document.error(
            (*here, "issuer", "audiences"), "no audience, so every token would be rejected; give the client's"
        )
    if username.prefix.startswith(PREFIX):
        raise document.error(
            (*here, "claimMappings", "username", "prefix"),
            f"{PREFIX} is for the controller's own tokens; take another, such as `lab:`",
        )
    return IssuerSettings(
        url=url,
        audiences=tuple(one.issuer.audiences),
        claim=username.claim,
        prefix=username.prefix,
        ca=_ca(document, (*here, "issuer", "certificateAuthority"), one.issuer.certificate_authority),
        required={rule.claim: rule.required_value for rule in one.claim_validation_rules},
    )


def _ca(document: Document, where: tuple[str | int, ...], text: str) -> str:
    if not text.strip():
        return ""
    if "-----BEGIN" not in text:
        path = document.file.parent / user_path(text)
        try:
            with path.open(encoding="ascii") as stream:
                text = stream.read(MAX_CA_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not PEM"
            raise document.error(where, f"{path} cannot be read: {reason}; check the path") from None
    try:
        ssl.create_default_context(cadata=text)
    except ssl.SSLError as error:
        raise document.error(where, f"this is not a PEM certificate: {cause_of(error)}") from None
    return text
