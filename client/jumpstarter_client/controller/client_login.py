"""Log in to a controller with a pairing code, a token, or a login at an issuer that the controller accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.remote.enrolment import enrol, explained, settle
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.controller.controller_client import CALL_SECONDS, ControllerClient
from jumpstarter_client.controller.token_renewal import list_issuers
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.identity.oidc import LoginError, Provider, discover
from jumpstarter_client.identity.oidc.provider import CLIENT_ID

__all__ = [
    "LoginOptions",
    "NoProviderError",
    "TokenRejectedError",
    "check_token",
    "enrol_with_code",
    "log_in_with_issuer",
    "log_in_with_token",
]


class NoProviderError(LoginError):
    """The controller accepts no tokens of an OpenID provider, or does not say which."""


class TokenRejectedError(RpcError):
    """The controller rejected the token."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.code, error.details)
        self.exit_code = ExitCode.DENIED


async def enrol_with_code(endpoint: str, trust: Trust, code: str) -> ClientConfig:
    """Redeem a pairing code, which works once. RpcError if the controller rejects it."""
    enrolled = await enrol(endpoint, trust, Kind.CLIENT, code)
    return ClientConfig(enrolled.endpoint, enrolled.identity, enrolled.trust)


async def log_in_with_token(endpoint: str, trust: Trust, identity: Identity) -> ClientConfig:
    """Return a configuration after the controller has accepted the token. RpcError if it rejects the token."""
    with explained(endpoint, trust):
        config = ClientConfig(endpoint, identity, await settle(endpoint, trust))
        await check_token(config)
    return config


@dataclass(frozen=True)
class LoginOptions:
    """How to log in at an issuer. Empty fields are discovered."""

    issuer: str = ""
    client_id: str = CLIENT_ID
    namespace: str = "default"
    name: str = ""
    browser: bool = False
    """Use the browser of this machine instead of the device flow."""
    port: int = 0
    """The port for the redirect of that browser; 0 means any."""


async def log_in_with_issuer(
    endpoint: str, trust: Trust, login: LoginOptions, on_message: Callable[[str], None]
) -> ClientConfig:
    """Log in at an issuer whose tokens the controller accepts. `on_message` gets the instructions for the user.

    Raises:
        LoginError: the issuer is unknown, or gave no token.
        FetchError, RpcError: the issuer or the controller is not reachable, or the controller rejected the token.
    """
    with explained(endpoint, trust):
        trust = await settle(endpoint, trust)
        known = await list_issuers(endpoint, trust)
    provider = await _provider(endpoint, known, login)
    if provider.device_endpoint and not login.browser:
        from jumpstarter_client.identity.oidc.device import log_in  # noqa: PLC0415 - the other is not loaded

        tokens = await log_in(provider, on_message)
    elif provider.authorization_endpoint:
        import webbrowser  # noqa: PLC0415

        from jumpstarter_client.identity.oidc import browser  # noqa: PLC0415

        tokens = await browser.log_in(provider, on_message, port=login.port, browse=webbrowser.open)
    else:
        raise LoginError(f"{provider.issuer} supports neither the device flow nor a login with a browser")
    identity = Identity(Kind.CLIENT, login.namespace, login.name, tokens.token)
    identity = await _with_registered_name(endpoint, trust, identity)
    config = ClientConfig(endpoint, identity, trust, refresh_token=tokens.refresh)
    await check_token(config)
    return config


async def _provider(endpoint: str, known: list[enrolment_pb2.Issuer], login: LoginOptions) -> Provider:
    url = login.issuer
    if not url and len(known) > 1:
        raise LoginError(
            f"several issuers; choose one: --issuer {' or --issuer '.join(one.url for one in known)}"
        )
    if not url and not known:
        raise NoProviderError(
            f"{endpoint} accepts no OpenID provider; log in with --pairing-code, or with --name NAME and a token"
        )
    one = next((one for one in known if one.url == url or not url), enrolment_pb2.Issuer(url=url))
    return await discover(one.url, ca=one.ca, audiences=tuple(one.audiences), client_id=login.client_id)


async def _with_registered_name(endpoint: str, trust: Trust, identity: Identity) -> Identity:
    """Return the identity with the name under which the controller knows the user of the token."""
    async with open_controller(endpoint, trust, identity) as channel:
        stub = enrolment_grpc.EnrolmentServiceStub(channel)
        try:
            reply = await stub.WhoAmI(enrolment_pb2.WhoAmIRequest(), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                if identity.name:
                    return identity
                raise LoginError(
                    "this controller does not report your client name; add --name NAME"
                ) from None
            raise TokenRejectedError(error) from None
        return replace(identity, namespace=reply.namespace, name=reply.name)


async def check_token(config: ClientConfig) -> None:
    """Check that the controller accepts the token for this client.

    Raises:
        TokenRejectedError: the controller rejected the token.
        RpcError: the controller is not reachable.
    """
    try:
        async with ControllerClient(config).open() as controller:
            await controller.check()
    except RpcError as error:
        # Controllers report invalid tokens and unknown clients as UNKNOWN.
        if error.code in (StatusCode.UNKNOWN, StatusCode.INVALID_ARGUMENT):
            raise TokenRejectedError(error) from None
        raise
