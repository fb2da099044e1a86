"""Becoming a client of a controller: with a pairing code, a token, or a login at an issuer that it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.remote.enrolment import enrol, explained, settle
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.controller.controller_client import CALL_SECONDS, ControllerClient
from jumpstarter_client.controller.token_renewal import issuers
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.identity.oidc import LoginError, Provider, discover
from jumpstarter_client.identity.oidc.provider import CLIENT_ID

__all__ = [
    "Login",
    "TokenRejectedError",
    "check",
    "enrol_with_code",
    "log_in_with_issuer",
    "log_in_with_token",
]


class TokenRejectedError(RpcError):
    """The controller does not take the token."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.code, error.details)
        self.exit_code = ExitCode.DENIED


async def enrol_with_code(endpoint: str, trust: Trust, code: str) -> ClientConfig:
    """Use a pairing code; it is used then, whatever becomes of us. RpcError says why it cannot be used."""
    member = await enrol(endpoint, trust, Kind.CLIENT, code)
    return ClientConfig(member.endpoint, member.identity, member.trust)


async def log_in_with_token(endpoint: str, trust: Trust, identity: Identity) -> ClientConfig:
    """A configuration that works: the controller has taken the token. RpcError says why it does not."""
    with explained(endpoint, trust):
        config = ClientConfig(endpoint, identity, await settle(endpoint, trust))
        await check(config)
    return config


@dataclass(frozen=True)
class Login:
    """How to log in at an issuer. What is empty is found out."""

    issuer: str = ""
    client_id: str = CLIENT_ID
    namespace: str = "default"
    name: str = ""
    browser: bool = False
    """With one on this machine, instead of a code that is typed on a page."""
    port: int = 0
    """Where that browser comes back to; 0 is any."""


async def log_in_with_issuer(
    endpoint: str, trust: Trust, login: Login, tell: Callable[[str], None]
) -> ClientConfig:
    """Log in at an issuer whose tokens the controller takes. `tell` gets what the user has to do.

    Raises:
        LoginError: there is no such issuer, or it gives no token.
        FetchError, RpcError: it or the controller cannot be reached, or the controller refuses.
    """
    with explained(endpoint, trust):
        trust = await settle(endpoint, trust)
        known = await issuers(endpoint, trust)
    provider = await _provider(endpoint, known, login)
    if provider.device_endpoint and not login.browser:
        from jumpstarter_client.identity.oidc.device import log_in  # noqa: PLC0415 - the other is not loaded

        tokens = await log_in(provider, tell)
    elif provider.authorization_endpoint:
        import webbrowser  # noqa: PLC0415

        from jumpstarter_client.identity.oidc import browser  # noqa: PLC0415

        tokens = await browser.log_in(provider, tell, port=login.port, browse=webbrowser.open)
    else:
        raise LoginError(f"{provider.issuer} offers neither a login with a code nor one with a browser")
    identity = Identity(Kind.CLIENT, login.namespace, login.name, tokens.token)
    identity = await _known_as(endpoint, trust, identity)
    config = ClientConfig(endpoint, identity, trust, refresh_token=tokens.refresh)
    await check(config)
    return config


async def _provider(endpoint: str, known: list[enrolment_pb2.Issuer], login: Login) -> Provider:
    url = login.issuer
    if not url and len(known) > 1:
        raise LoginError(f"which issuer? --issuer {' or --issuer '.join(one.url for one in known)}")
    if not url and not known:
        raise LoginError(
            f"{endpoint} takes no tokens but its own; log in with --pairing-code, or with --name NAME and a token"
        )
    one = next((one for one in known if one.url == url or not url), enrolment_pb2.Issuer(url=url))
    return await discover(one.url, ca=one.ca, audiences=tuple(one.audiences), client_id=login.client_id)


async def _known_as(endpoint: str, trust: Trust, identity: Identity) -> Identity:
    """With the name that the controller has for whom the token names."""
    async with open_controller(endpoint, trust, identity) as channel:
        stub = enrolment_grpc.EnrolmentServiceStub(channel)
        try:
            reply = await stub.WhoAmI(enrolment_pb2.WhoAmIRequest(), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                if identity.name:
                    return identity
                raise LoginError("this controller does not say who you are there; add --name NAME") from None
            raise TokenRejectedError(error) from None
        return replace(identity, namespace=reply.namespace, name=reply.name)


async def check(config: ClientConfig) -> None:
    """Whether the controller takes us for the client that we say to be.

    Raises:
        RpcError: it cannot be reached, or does not take the token, then with the exit code of that.
    """
    try:
        async with ControllerClient(config).open() as controller:
            await controller.check()
    except RpcError as error:
        # On the wire a token that does not count is UNKNOWN, as is a client that is not there.
        if error.code in (StatusCode.UNKNOWN, StatusCode.INVALID_ARGUMENT):
            raise TokenRejectedError(error) from None
        raise
