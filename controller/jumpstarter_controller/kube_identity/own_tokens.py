"""Tokens that the controller signs with its own key, in Secrets."""

from __future__ import annotations

from jumpstarter_controller.identity import TokenError
from jumpstarter_controller.kube_identity.secrets import SecretContent
from jumpstarter_controller.lab import Client, Exporter
from jumpstarter_controller.services.credentials import CredentialIssuer

__all__ = ["OwnTokens"]

DAY = 86400.0


class OwnTokens:
    """`SecretTokens` of a controller with its own signer."""

    def __init__(self, credentials: CredentialIssuer) -> None:
        self._credentials = credentials
        self.note = ""

    @property
    def endpoint(self) -> str:
        """The endpoint that the tokens are valid for."""
        return self._credentials.addresses.endpoint

    async def for_secret(self, record: Client | Exporter) -> tuple[str, float]:
        """A new token, and when it expires in seconds since the epoch."""
        return await self._credentials.token(record)

    async def content(self, token: str) -> SecretContent:
        """The claims of a token in a Secret, which is untrusted."""
        try:
            subject, expires = self._credentials.signed(token)
        except TokenError:
            return SecretContent()
        return SecretContent(subject, expires, expires - min(7 * DAY, self._credentials.lifetime / 10))
