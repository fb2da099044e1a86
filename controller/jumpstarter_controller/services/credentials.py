"""Tokens for clients, exporters and hosts, with all that their configurations need."""

from __future__ import annotations

import logging
from typing import Protocol

from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.remote import Kind

from jumpstarter_controller.identity import Subject, TokenIssuer
from jumpstarter_controller.lab import Client, Exporter, Host
from jumpstarter_controller.process.data_folder import Addresses
from jumpstarter_controller.process.server_log import about

__all__ = ["CredentialIssuer", "TokenSource"]

_KINDS: dict[type[Client | Exporter | Host], Kind] = {
    Client: Kind.CLIENT,
    Exporter: Kind.EXPORTER,
    Host: Kind.HOST,
}
_log = logging.getLogger(__name__)


class TokenSource(Protocol):
    """An external issuer of the tokens of a lab."""

    async def issue(self, subject: Subject) -> tuple[str, float]:
        """A token, and when it ends in seconds since the epoch. StoreError: there is none; says why."""


class CredentialIssuer:
    """Issues them for the controller that is reached at `addresses`."""

    def __init__(self, issuer: TokenIssuer, addresses: Addresses, source: TokenSource | None = None) -> None:
        """Tokens are the `source`'s if there is one."""
        self._issuer = issuer
        self._source = source
        self.addresses = addresses

    @property
    def lifetime(self) -> float:
        """How long tokens are good, in seconds."""
        return self._issuer.lifetime

    def signed(self, token: str) -> tuple[Subject, float]:
        """Return subject and expiry of a token of this lab, also of an expired one. TokenError: it is invalid."""
        return self._issuer.signed(token)

    async def token(self, record: Client | Exporter | Host) -> tuple[str, float]:
        """A token, and when it ends in seconds since the epoch. StoreError: there is none; says why."""
        subject = Subject(_KINDS[type(record)], record.namespace, record.name, record.uid)
        issued = self._issuer.issue(subject) if self._source is None else await self._source.issue(subject)
        _log.info("token issued", extra=about(record))
        return issued

    async def of(self, record: Client | Exporter | Host) -> pb.Credential:
        """A token and what goes with it."""
        kind = _KINDS[type(record)]
        token, _ = await self.token(record)
        return pb.Credential(
            kind=kind.value,
            namespace=record.namespace,
            name=record.name,
            endpoint=self.addresses.endpoint,
            token=token,
            ca=self.addresses.ca,
        )
