"""Renews the token of an exporter at our controller before it expires.

The new token is stored in the place of the old one: in the state directory, or in the configuration file of the
exporter. If that file cannot be written, the state directory is used from then on.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import enrolment_pb2
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.remote import Identity, Trust, read_claims
from jumpstarter_proto.yaml_files import set_values

from jumpstarter_exporter.config import ExporterConfig, load, with_identity
from jumpstarter_exporter.config.identities import Identities
from jumpstarter_exporter.config.model import Enrolment
from jumpstarter_exporter.registration.controller import CALL_SECONDS, RegistrationCalls

__all__ = ["OwnRenewal"]

_log = logging.getLogger(__name__)


class OwnRenewal:
    """Renewal for an exporter that a person enrolled or gave a token."""

    def __init__(self, config: ExporterConfig, identities: Identities | None = None) -> None:
        self._config = config
        self._identities = identities or Identities()

    def seconds(self, identity: Identity) -> float | None:
        """See `Renewal`."""
        return read_claims(identity.token).renewal_seconds

    async def renew(
        self, calls: RegistrationCalls, identity: Identity, trust: Trust
    ) -> tuple[Identity, Trust]:
        """See `Renewal`."""
        credential = await calls.enrolment.RenewToken(enrolment_pb2.RenewTokenRequest(), timeout=CALL_SECONDS)
        try:
            await trio.to_thread.run_sync(self._keep, identity.token, credential.token)
        except (JumpstarterError, OSError) as error:
            _log.warning("the new token cannot be stored and is lost when this process ends: %s", error)
        return replace(identity, token=credential.token), trust

    def _keep(self, before: str, token: str) -> None:
        """Store the new token in place of the old one, unless the old one was changed meanwhile."""
        config, identities = self._config, self._identities
        current = config if config.discovered is not None else load(config.file, lenient=True)
        enrolment = with_identity(current, identities).enrolment
        if enrolment is None or enrolment.token != before:
            return
        stored = identities.find(config.board_name)
        new = replace(enrolment, token=token)
        if stored is not None and stored.enrolment.token == before:
            identities.save(stored.board, new, stored.config)
            return
        try:
            _write(new)
        except (PrivateFileError, OSError) as error:
            kept = identities.save(config.board_name, new, config.file)
            _log.warning("%s; the new token is in %s, which is used from now on", error, kept)


def _write(enrolment: Enrolment) -> None:
    text = enrolment.file.read_text(encoding="utf-8")
    write_private(enrolment.file, set_values(text, {("token",): enrolment.token}).encode())
