"""Becoming a client of a controller, with a pairing code or a token; checked against the controller itself."""

from __future__ import annotations

from jumpstarter_proto.client.v1 import client_grpc, client_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.remote.enrolment import enrol, explained, settle
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.leasing.configs import ClientConfig

__all__ = ["by_code", "by_token", "check"]

CALL_SECONDS = 30.0


async def by_code(endpoint: str, trust: Trust, code: str) -> ClientConfig:
    """Use a pairing code; it is used then, whatever becomes of us. RpcError says why it cannot be used."""
    member = await enrol(endpoint, trust, Kind.CLIENT, code)
    return ClientConfig(member.endpoint, member.identity, member.trust)


async def by_token(endpoint: str, trust: Trust, identity: Identity) -> ClientConfig:
    """A configuration that works: the controller has taken the token. RpcError says why it does not."""
    with explained(endpoint, trust):
        config = ClientConfig(endpoint, identity, await settle(endpoint, trust))
        await check(config)
    return config


async def check(config: ClientConfig) -> None:
    """Ask the controller for something that only its clients get.

    Raises:
        RpcError: it cannot be reached, or does not take the token, then with the exit code of that.
    """
    request = client_pb2.ListLeasesRequest(
        parent=f"namespaces/{config.identity.namespace}", page_size=1, only_active=True
    )
    async with open_controller(config.endpoint, config.trust, config.identity) as channel:
        try:
            await client_grpc.ClientServiceStub(channel).ListLeases(request, timeout=CALL_SECONDS)
        except RpcError as error:
            # A token that does not count is UNKNOWN on the wire, as is a client that is not there.
            if error.code in (StatusCode.UNKNOWN, StatusCode.INVALID_ARGUMENT):
                error.exit_code = ExitCode.DENIED
            raise
