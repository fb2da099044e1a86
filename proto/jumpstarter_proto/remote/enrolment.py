"""Becoming a client or exporter of a controller: by a pairing code, over a connection that is pinned."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2, lab_pb2
from jumpstarter_proto.remote.controller_channel import CONNECT_SECONDS, open_controller
from jumpstarter_proto.remote.identity import Identity, Kind
from jumpstarter_proto.remote.trust import Trust, split_endpoint
from jumpstarter_proto.rpc import RpcError, StatusCode, UntrustedError

__all__ = ["HOST_PREFIX", "Membership", "enrol", "explained", "kind_of_code", "settle"]

CALL_SECONDS = 30.0
HOST_PREFIX = "HOST"
"""How a pairing code for a host begins. Others have no letter O."""


@dataclass(frozen=True)
class Membership:
    """The membership of a lab, as stored in a configuration: controller, identity and TLS trust."""

    endpoint: str
    identity: Identity
    trust: Trust
    """Without a fingerprint, for which a configuration has no place."""

    def changes(self) -> dict[tuple[str, ...], str | bool]:
        """To a configuration file, so that it says so (see `yaml_files.set_values`)."""
        return {
            ("metadata", "namespace"): self.identity.namespace,
            ("metadata", "name"): self.identity.name,
            ("endpoint",): self.endpoint,
            ("tls", "ca"): self.trust.ca,
            ("tls", "insecure"): self.trust.insecure,
            ("token",): self.identity.token,
        }


def kind_of_code(code: str, usual: Kind) -> Kind:
    """Return the kind that a pairing code is for: a host if the code says so, else `usual`."""
    plain = "".join(code.split()).replace("-", "").upper()
    return Kind.HOST if plain.startswith(HOST_PREFIX) else usual


async def enrol(endpoint: str, trust: Trust, kind: Kind, code: str, nonce: str = "") -> Membership:
    """Use a pairing code. It is used then, whatever becomes of us, unless we ask again with the same `nonce`.

    Raises:
        RpcError: the controller cannot be reached, or refuses; says what to do.
    """
    request = enrolment_pb2.EnrolRequest(kind=kind.value, code=code, nonce=nonce)
    with explained(endpoint, trust):
        async with open_controller(endpoint, trust, None) as channel:
            stub = enrolment_grpc.EnrolmentServiceStub(channel)
            try:
                credential = await stub.Enrol(request, timeout=CALL_SECONDS)
            except RpcError as error:
                if error.code is StatusCode.UNIMPLEMENTED:
                    raise RpcError(
                        StatusCode.UNIMPLEMENTED,
                        f"the controller at {endpoint} does not support pairing codes; "
                        "ask its administrator for a configuration",
                    ) from None
                raise
    return await _membership(endpoint, trust, credential)


@contextmanager
def explained(endpoint: str, trust: Trust) -> Iterator[None]:
    """Add to an error what to do if a controller without a fingerprint is not trusted."""
    try:
        yield
    except UntrustedError as error:
        if trust.fingerprint or not error.reason:
            raise
        raise UntrustedError(
            error.code,
            f"the certificate of {endpoint} is not trusted ({error.reason}); if the controller made its own, "
            "add --tls-fingerprint with what it printed at its start (`jumpstarter-controller admin pair` also shows "
            "it)",
            reason=error.reason,
        ) from None


async def settle(endpoint: str, trust: Trust) -> Trust:
    """Replace a fingerprint by the certificate that has it.

    Raises:
        RpcError: it cannot be fetched, or is another.
    """
    if not trust.fingerprint:
        return trust
    return _authority(await trust.shown(*split_endpoint(endpoint), timeout=CONNECT_SECONDS))


async def _membership(endpoint: str, trust: Trust, credential: lab_pb2.Credential) -> Membership:
    """What of a credential works from here: the address that was used, if the certificate is good for it."""
    identity = Identity(Kind(credential.kind), credential.namespace, credential.name, credential.token)
    if credential.ca:
        trusts = [_authority(credential.ca)]
    elif trust.fingerprint:
        # Somebody else vouches for it; we do not know yet whether this system believes them.
        trusts = [Trust(), await settle(endpoint, trust)]
    else:
        trusts = [trust]
    for address in dict.fromkeys((endpoint, credential.endpoint)):
        for candidate in trusts:
            try:
                async with open_controller(address, candidate, identity):
                    return Membership(address, identity, candidate)
            except RpcError:
                continue
    # From here it is reached by neither name; the controller's own is right at least for the token.
    return Membership(credential.endpoint, identity, trusts[-1])


def _authority(pem: str) -> Trust:
    return Trust(ca=base64.b64encode(pem.encode()).decode())
