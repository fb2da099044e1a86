"""An OpenID provider: discovery and token requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.https import Reply, fetch_json
from jumpstarter_proto.remote import read_claims

__all__ = ["CLIENT_ID", "SCOPE", "LoginError", "Provider", "Tokens", "discover", "renew"]

CLIENT_ID = "jumpstarter-cli"
"""The client id of Jumpstarter's own client."""
SCOPE = "openid profile email offline_access"
MAX_TEXT_LENGTH = 300
"""How much of an error text of a provider is shown, in characters."""


class LoginError(JumpstarterError):
    """The provider gave no token; the message has the reason."""

    exit_code = ExitCode.DENIED


@dataclass(frozen=True)
class Tokens:
    """The tokens of a login. The `repr` does not contain them."""

    token: str = field(repr=False)
    """For the controller."""
    refresh: str = field(default="", repr=False)
    """To get new tokens from the provider; empty if it gave none."""


@dataclass(frozen=True)
class Provider:
    """The used parts of its discovery document. Endpoints that it does not have are empty."""

    issuer: str
    ca: str
    """PEM; empty: the system's authorities."""
    audiences: tuple[str, ...]
    """The audiences of tokens that the controller accepts; empty if unknown."""
    client_id: str
    token_endpoint: str
    device_endpoint: str = ""
    authorization_endpoint: str = ""

    async def ask(self, endpoint: str, fields: Mapping[str, str]) -> Reply:
        """Post a form as this client."""
        return await fetch_json(endpoint, self.ca, {"client_id": self.client_id, **fields})

    def tokens(self, reply: Reply, before: str = "") -> Tokens:
        """Return the tokens in a reply: of several, the one that the controller accepts.

        `before` is the refresh token to keep if there is no new one.

        Raises:
            LoginError: the reply has no tokens.
        """
        if reply.status != 200:
            raise LoginError(f"{self.issuer} rejected the login: {error_text(reply)}; log in again")
        found = [reply.data.get(key) for key in ("access_token", "id_token")]
        texts = [text for text in found if isinstance(text, str) and text]
        if not texts:
            raise LoginError(f"{self.issuer} gave no token; ask its administrator")
        fitting = [text for text in texts if set(read_claims(text).audiences) & set(self.audiences)]
        refresh = reply.data.get("refresh_token")
        return Tokens((fitting or texts)[0], refresh if isinstance(refresh, str) and refresh else before)


async def discover(
    issuer: str, *, ca: str = "", audiences: tuple[str, ...] = (), client_id: str = CLIENT_ID
) -> Provider:
    """Fetch the discovery document of an issuer.

    Raises:
        FetchError: the issuer is not reachable.
        LoginError: the document is invalid or names another issuer.
    """
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    reply = await fetch_json(url, ca)
    if reply.status != 200 or reply.data.get("issuer") != issuer:
        raise LoginError(f"{url} is not the discovery document of {issuer}; correct the issuer's URL")

    def endpoint(key: str) -> str:
        value = reply.data.get(key, "")
        return value if isinstance(value, str) and value.startswith("https://") else ""

    if not endpoint("token_endpoint"):
        raise LoginError(f"{issuer} has no token endpoint; ask its administrator")
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
    """Exchange a refresh token for new tokens. LoginError if it is no longer valid."""
    fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return provider.tokens(await provider.ask(provider.token_endpoint, fields), refresh_token)


def error_text(reply: Reply) -> str:
    """Return the error text of a provider, made printable."""
    parts = [reply.data.get(key) for key in ("error", "error_description")]
    text = ": ".join(part for part in parts if isinstance(part, str) and part) or f"HTTP {reply.status}"
    return shown(text)


def shown(text: str) -> str:
    """Replace characters that are not printable, and cut the text."""
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_TEXT_LENGTH])
