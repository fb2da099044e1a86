"""A configuration gets a new token before its own ends: of its issuer, if it has a refresh token, or of its controller.

The file is where they are kept: several commands may use one, and a refresh token mostly counts once. So one renews
at a time, and the others take what it wrote.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2
from jumpstarter_proto.remote import Trust, open_controller, read_claims
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.identity.client_config import ClientConfig, load, replace_tokens
from jumpstarter_client.identity.oidc import LoginError, Provider, discover, renew
from jumpstarter_client.identity.oidc.provider import CLIENT_ID

__all__ = ["SOON", "find_provider", "fresh", "is_due", "issuers", "renew_with_controller", "renewed"]

SOON = 120.0
"""A token that is good for less is renewed before it is used."""
LOCK_SECONDS = 30.0
CALL_SECONDS = 30.0

_log = logging.getLogger(__name__)


async def fresh(config: ClientConfig) -> ClientConfig:
    """The same configuration, with a token that is good for a while if one can be had.

    Raises:
        LoginError: the token is over, and nobody gives another.
    """
    left = read_claims(config.identity.token).left
    if left is None or left >= SOON or not config.refresh_token or config.path is None:
        return config
    try:
        return await renewed(config)
    except (JumpstarterError, OSError) as error:  # the second: a folder that cannot be written, a full disk
        if left > 0:
            _log.warning("the token is good for %.0f s more and cannot be renewed: %s", left, error)
            return config
        raise LoginError(
            f"the token is expired, and there is no other: {error}; run `jumpstarter login`"
        ) from None


async def renewed(config: ClientConfig, *, least: float = SOON) -> ClientConfig:
    """Get new tokens and keep them. If somebody else did while we waited, theirs will do with `least` seconds left.

    Raises:
        LoginError: the configuration has no refresh token, or the issuer refuses.
        FetchError, RpcError: the issuer or the controller cannot be reached.
    """
    if config.path is None or not config.refresh_token:
        raise LoginError("there is no refresh token in this configuration; run `jumpstarter login` again")
    async with _alone(config.path):
        current = load(str(config.path), os.environ)
        if current.identity.token != config.identity.token:
            left = read_claims(current.identity.token).left
            if left is None or left >= least:
                return _with(config, current)
        issuer = read_claims(current.identity.token).issuer
        provider = await find_provider(current.endpoint, current.trust, issuer)
        # Once it has been used, the old refresh token is gone: not to be cut off before the new one is kept.
        with trio.CancelScope(shield=True):
            tokens = await renew(provider, current.refresh_token)
            replace_tokens(config.path, tokens.token, tokens.refresh)
        identity = replace(current.identity, token=tokens.token)
        return replace(config, identity=identity, refresh_token=tokens.refresh)


def is_due(config: ClientConfig) -> bool:
    """Whether its controller should be asked for a new token."""
    claims = read_claims(config.identity.token)
    seconds = claims.renewal_seconds
    return seconds is not None and seconds <= 0 < (claims.left or 0.0) and config.path is not None


async def renew_with_controller(config: ClientConfig) -> ClientConfig:
    """Get a new token of the controller and keep it, or take what another command has got meanwhile.

    All tokens from before are good until they end, in other copies of the configuration, too.

    Raises:
        RpcError: it cannot be had; UNIMPLEMENTED, the controller makes none this way.
        JumpstarterError, OSError: it cannot be kept.
    """
    assert config.path is not None
    async with _alone(config.path):
        current = load(str(config.path), os.environ)
        if current.identity.token != config.identity.token and not is_due(current):
            return _with(config, current)
        replace_tokens(config.path, current.identity.token)  # where none can be kept, none is asked for
        async with open_controller(current.endpoint, current.trust, current.identity) as channel:
            stub = enrolment_grpc.EnrolmentServiceStub(channel)
            reply = await stub.RenewToken(enrolment_pb2.RenewTokenRequest(), timeout=CALL_SECONDS)
        replace_tokens(config.path, reply.token)
        return replace(config, identity=replace(current.identity, token=reply.token))


def _with(config: ClientConfig, current: ClientConfig) -> ClientConfig:
    return replace(config, identity=current.identity, refresh_token=current.refresh_token)


async def issuers(endpoint: str, trust: Trust) -> list[enrolment_pb2.Issuer]:
    """Whose tokens a controller takes beside its own; none if it does not say."""
    async with open_controller(endpoint, trust, None) as channel:
        stub = enrolment_grpc.EnrolmentServiceStub(channel)
        try:
            reply = await stub.ListIssuers(enrolment_pb2.ListIssuersRequest(), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                return []
            raise
        return list(reply.issuers)


async def find_provider(endpoint: str, trust: Trust, issuer: str, client_id: str = CLIENT_ID) -> Provider:
    """The provider of that URL, believed as the controller believes it. FetchError or LoginError if it is none."""
    for one in await issuers(endpoint, trust):
        if one.url == issuer:
            return await discover(issuer, ca=one.ca, audiences=tuple(one.audiences), client_id=client_id)
    return await discover(issuer, client_id=client_id)


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """While the block lasts, no other of our commands renews the tokens of that file."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with trio.move_on_after(LOCK_SECONDS) as waiting:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await trio.sleep(0.1)
        if waiting.cancelled_caught:
            raise LoginError(f"another command has been renewing the token of {path} for too long; try again")
        yield
    finally:
        os.close(descriptor)
