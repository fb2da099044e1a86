"""Tokens for clients, exporters and hosts, with all that their configurations need."""

from __future__ import annotations

import logging

from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.remote import Kind

from jumpstarter_controller.folder import Addresses
from jumpstarter_controller.identity import Subject, TokenIssuer
from jumpstarter_controller.lab import Client, Exporter, Host
from jumpstarter_controller.logs import about

__all__ = ["Credentials"]

_KINDS: dict[type[Client | Exporter | Host], Kind] = {
    Client: Kind.CLIENT,
    Exporter: Kind.EXPORTER,
    Host: Kind.HOST,
}
_log = logging.getLogger(__name__)


class Credentials:
    """Issues them for the controller that is reached at `addresses`."""

    def __init__(self, issuer: TokenIssuer, addresses: Addresses) -> None:
        self._issuer = issuer
        self.addresses = addresses

    @property
    def lifetime(self) -> float:
        """How long tokens are good, in seconds."""
        return self._issuer.lifetime

    def signed(self, token: str) -> tuple[Subject, float]:
        """Whom a token of ours names, and when it ends or has ended; TokenError: it is not ours."""
        return self._issuer.signed(token)

    def token(self, record: Client | Exporter | Host) -> tuple[str, float]:
        """A token, and when it ends in seconds since the epoch."""
        kind = _KINDS[type(record)]
        _log.info("token issued", extra=about(record))
        return self._issuer.issue(Subject(kind, record.namespace, record.name, record.uid))

    def of(self, record: Client | Exporter | Host) -> pb.Credential:
        """A token and what goes with it."""
        kind = _KINDS[type(record)]
        return pb.Credential(
            kind=kind.value,
            namespace=record.namespace,
            name=record.name,
            endpoint=self.addresses.endpoint,
            token=self.token(record)[0],
            ca=self.addresses.ca,
        )
