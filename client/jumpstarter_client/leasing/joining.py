"""Becoming a client of a controller, with a pairing code or a token; checked against the controller itself."""

from __future__ import annotations

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.remote.enrolment import enrol, explained, settle
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.leasing.configs import ClientConfig
from jumpstarter_client.leasing.controller import Controller

__all__ = ["DeniedError", "by_code", "by_token", "check"]


class DeniedError(RpcError):
    """The controller does not take the token."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.code, error.details)
        self.exit_code = ExitCode.DENIED


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
    """Whether the controller takes us for the client that we say to be.

    Raises:
        RpcError: it cannot be reached, or does not take the token, then with the exit code of that.
    """
    try:
        async with Controller(config).open() as controller:
            await controller.check()
    except RpcError as error:
        # On the wire a token that does not count is UNKNOWN, as is a client that is not there.
        if error.code in (StatusCode.UNKNOWN, StatusCode.INVALID_ARGUMENT):
            raise DeniedError(error) from None
        raise
