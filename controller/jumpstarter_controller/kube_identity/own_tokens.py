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
        """Where they are good."""
        return self._credentials.addresses.endpoint

    async def for_secret(self, record: Client | Exporter) -> tuple[str, float]:
        """A new one, and when it ends in seconds since the epoch."""
        return await self._credentials.token(record)

    async def content(self, token: str) -> SecretContent:
        """What a token says that is in a Secret; it may be anybody's."""
        try:
            subject, expires = self._credentials.signed(token)
        except TokenError:
            return SecretContent()
        return SecretContent(subject, expires, expires - min(7 * DAY, self._credentials.lifetime / 10))
