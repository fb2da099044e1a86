"""An OpenID provider: where its parts are, and what it answers to who wants tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.https import Reply, fetch_json
from jumpstarter_proto.remote import read_claims

__all__ = ["CLIENT_ID", "SCOPE", "LoginError", "Provider", "Tokens", "discover", "renew"]

CLIENT_ID = "jumpstarter-cli"
"""As Jumpstarter's own client calls itself."""
SCOPE = "openid profile email offline_access"
LONGEST = 300
"""Of what a provider says that is shown."""


class LoginError(JumpstarterError):
    """The provider gives no token; says why."""

    exit_code = ExitCode.DENIED


@dataclass(frozen=True)
class Tokens:
    """What a login brings. They are in no text made from this object."""

    token: str = field(repr=False)
    """For the controller."""
    refresh: str = field(default="", repr=False)
    """For the provider, which gives new ones for it; empty if it gave none."""


@dataclass(frozen=True)
class Provider:
    """Its discovery document, as far as we need it; an endpoint that it has not is empty."""

    issuer: str
    ca: str
    """PEM; empty: the system's authorities."""
    audiences: tuple[str, ...]
    """Of tokens that the controller takes; empty if nobody knows."""
    client_id: str
    token_endpoint: str
    device_endpoint: str = ""
    authorization_endpoint: str = ""

    async def ask(self, endpoint: str, fields: Mapping[str, str]) -> Reply:
        """Post a form as this client."""
        return await fetch_json(endpoint, self.ca, {"client_id": self.client_id, **fields})

    def tokens(self, reply: Reply, before: str = "") -> Tokens:
        """The tokens in a reply; of those that it has, the one that the controller takes.

        `before` is the refresh token that goes on if there is no new one.

        Raises:
            LoginError: there are none.
        """
        if reply.status != 200:
            raise LoginError(f"{self.issuer} refuses: {said(reply)}; log in again")
        found = [reply.data.get(key) for key in ("access_token", "id_token")]
        texts = [text for text in found if isinstance(text, str) and text]
        if not texts:
            raise LoginError(f"{self.issuer} gave no token; ask who runs it")
        fitting = [text for text in texts if set(read_claims(text).audiences) & set(self.audiences)]
        refresh = reply.data.get("refresh_token")
        return Tokens((fitting or texts)[0], refresh if isinstance(refresh, str) and refresh else before)


async def discover(
    issuer: str, *, ca: str = "", audiences: tuple[str, ...] = (), client_id: str = CLIENT_ID
) -> Provider:
    """Ask an issuer where its parts are.

    Raises:
        FetchError: it cannot be reached.
        LoginError: what it says is not about itself.
    """
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    reply = await fetch_json(url, ca)
    if reply.status != 200 or reply.data.get("issuer") != issuer:
        raise LoginError(f"{url} is not the discovery document of {issuer}; correct the issuer's URL")

    def endpoint(key: str) -> str:
        value = reply.data.get(key, "")
        return value if isinstance(value, str) and value.startswith("https://") else ""

    if not endpoint("token_endpoint"):
        raise LoginError(f"{issuer} has no token endpoint; ask who runs it")
    return Provider(
        issuer,
        ca,
        audiences,
        client_id,
        endpoint("token_endpoint"),
        endpoint("device_authorization_endpoint"),
        endpoint("authorization_endpoint"),
    )


async def renew(provider: Provider, refresh_token: str) -> Tokens:
    """New tokens for a refresh token. LoginError if it counts no more."""
    fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return provider.tokens(await provider.ask(provider.token_endpoint, fields), refresh_token)


def said(reply: Reply) -> str:
    """A provider's own words for an error, fit to be shown."""
    parts = [reply.data.get(key) for key in ("error", "error_description")]
    text = ": ".join(part for part in parts if isinstance(part, str) and part) or f"HTTP {reply.status}"
    return shown(text)


def shown(text: str) -> str:
    """Without what could do something to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:LONGEST])
