"""Renews the token of a client configuration before it expires, at its issuer or at its controller.

Several commands may share one configuration file, and a refresh token usually works once. So only one command renews at
a time, and the others read the new tokens from the file.
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
from jumpstarter_client.identity.rejected_token import login_command

__all__ = [
    "RENEW_BEFORE_SECONDS",
    "find_provider",
    "is_renewal_due",
    "list_issuers",
    "refresh_tokens",
    "renew_with_controller",
    "with_valid_token",
]

RENEW_BEFORE_SECONDS = 120.0
"""A token that expires sooner is renewed before it is used."""
LOCK_SECONDS = 30.0
CALL_SECONDS = 30.0

_log = logging.getLogger(__name__)


async def with_valid_token(config: ClientConfig) -> ClientConfig:
    """Return the configuration with a token that is valid for a while, renewed if necessary.

    Raises:
        LoginError: the token has expired and renewing it failed.
    """
    left = read_claims(config.identity.token).left
    if left is None or left >= RENEW_BEFORE_SECONDS or not config.refresh_token or config.path is None:
        return config
    try:
        return await refresh_tokens(config)
    except (JumpstarterError, OSError) as error:  # OSError: the folder is not writable, or the disk is full
        if left > 0:
            _log.warning("the token expires in %.0f s and cannot be renewed: %s", left, error)
            return config
        raise LoginError(
            f"the token has expired and cannot be renewed: {error}; run `{login_command(config)}`"
        ) from None


async def refresh_tokens(config: ClientConfig, *, least: float = RENEW_BEFORE_SECONDS) -> ClientConfig:
    """Get new tokens from the issuer and save them.

    Tokens that another command saved meanwhile are used if they are valid for `least` seconds.

    Raises:
        LoginError: the configuration has no refresh token, or the issuer rejected it.
        FetchError, RpcError: the issuer or the controller is not reachable.
    """
    if config.path is None or not config.refresh_token:
        if read_claims(config.identity.token).is_own and config.path is not None:
            raise LoginError(
                "this configuration has a token of the controller, which no OpenID provider renews; "
                "replace it with: jumpstarter auth rotate"
            )
        raise LoginError(f"this configuration has no refresh token; log in again: {login_command(config)}")
    async with _token_file_lock(config.path):
        current = load(str(config.path), os.environ)
        if current.identity.token != config.identity.token:
            left = read_claims(current.identity.token).left
            if left is None or left >= least:
                return _with_tokens_of(config, current)
        issuer = read_claims(current.identity.token).issuer
        provider = await find_provider(current.endpoint, current.trust, issuer)
        # The old refresh token is used up by the request: do not cancel before the new one is saved.
        with trio.CancelScope(shield=True):
            tokens = await renew(provider, current.refresh_token)
            replace_tokens(config.path, tokens.token, tokens.refresh)
        identity = replace(current.identity, token=tokens.token)
        return replace(config, identity=identity, refresh_token=tokens.refresh)


def is_renewal_due(config: ClientConfig) -> bool:
    """Whether to ask the controller for a new token."""
    claims = read_claims(config.identity.token)
    seconds = claims.renewal_seconds
    return seconds is not None and seconds <= 0 < (claims.left or 0.0) and config.path is not None


async def renew_with_controller(config: ClientConfig) -> ClientConfig:
    """Get a new token from the controller and save it, or use the one that another command saved meanwhile.

    Older tokens stay valid until they expire, also in copies of the configuration.

    Raises:
        RpcError: the controller gave no token; UNIMPLEMENTED if it does not renew tokens.
        JumpstarterError, OSError: the token could not be saved.
    """
    assert config.path is not None
    async with _token_file_lock(config.path):
        current = load(str(config.path), os.environ)
        if current.identity.token != config.identity.token and not is_renewal_due(current):
            return _with_tokens_of(config, current)
        replace_tokens(
            config.path, current.identity.token
        )  # fail before the request if the file is not writable
        async with open_controller(current.endpoint, current.trust, current.identity) as channel:
            stub = enrolment_grpc.EnrolmentServiceStub(channel)
            reply = await stub.RenewToken(enrolment_pb2.RenewTokenRequest(), timeout=CALL_SECONDS)
        replace_tokens(config.path, reply.token)
        return replace(config, identity=replace(current.identity, token=reply.token))


def _with_tokens_of(config: ClientConfig, current: ClientConfig) -> ClientConfig:
    return replace(config, identity=current.identity, refresh_token=current.refresh_token)


async def list_issuers(endpoint: str, trust: Trust) -> list[enrolment_pb2.Issuer]:
    """Return the issuers whose tokens the controller accepts; empty if it does not list them."""
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
    """Discover a provider, with the CA that the controller uses for it. FetchError or LoginError on failure."""
    for one in await list_issuers(endpoint, trust):
        if one.url == issuer:
            return await discover(issuer, ca=one.ca, audiences=tuple(one.audiences), client_id=client_id)
    return await discover(issuer, client_id=client_id)


@asynccontextmanager
async def _token_file_lock(path: Path) -> AsyncIterator[None]:
    """Keep other commands from renewing the tokens of a file during the block."""
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
            raise LoginError(f"another command is still renewing the token of {path}; try again")
        yield
    finally:
        os.close(descriptor)
