"""What a user does about a token that the controller rejects: why it is rejected, and the way to a new one."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import ReasonCode, means, read_claims, reason_of
from jumpstarter_proto.rpc import Metadata, RpcError, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_client.identity.client_config import config_home, load

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["RejectedTokenError", "login_command", "pairing_steps", "rejection"]


class RejectedTokenError(RpcError):
    """The controller rejected the token; the message has the next step."""

    def __init__(self, code: StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        super().__init__(code, details, trailing_metadata)
        self.exit_code = ExitCode.DENIED


def rejection(error: RpcError, config: ClientConfig) -> str:
    """Return the sentence for a token that the controller rejects, with the next step; empty for any other error."""
    if isinstance(error, RejectedTokenError):
        return ""
    reason = error.details.partition("; ")[0]
    if means(error, ReasonCode.TOKEN_EXPIRED):
        return f"{reason}; {_next_step(config)}"
    if means(error, ReasonCode.TOKEN_UNFIT):
        return ""  # the controller says the step, such as to try again when it can reach the issuer
    if means(error, ReasonCode.BAD_TOKEN):
        return f"{reason}; {_next_step(config)}"
    is_said = reason_of(error) == ReasonCode.CALLER_DENIED
    if is_said or (error.code is StatusCode.PERMISSION_DENIED and means(error, ReasonCode.CALLER_DENIED)):
        return f"{reason}: {_why_denied(config)}; {_next_step(config)}"
    return ""


def pairing_steps(config: ClientConfig) -> str:
    """Return how an administrator and the user replace the token of a configuration by a pairing code."""
    who = config.identity
    namespace = "" if who.namespace == "default" else f" --namespace {shlex.quote(who.namespace)}"
    admin = "jumpstarter-controller admin"
    name = shlex.quote(who.name)
    if config.path is None:
        return f"the lab's administrator makes a new one: {admin} client rotate {name}{namespace}"
    return (
        f"the lab's administrator makes a code (`{admin} pair client {name}{namespace} --renew`), "
        f"and you use it: {login_command(config)} --pairing-code"
    )


def login_command(config: ClientConfig) -> str:
    """Return the command that logs in again with this configuration."""
    path = config.path
    if path is None or path == _default_path():
        return "jumpstarter login"
    named = path.stem if path.parent == (config_home(os.environ) / "clients").absolute() else str(path)
    return f"jumpstarter login --client {shlex.quote(named)}"


def _next_step(config: ClientConfig) -> str:
    claims = read_claims(config.identity.token)
    if claims.is_own or config.path is None:
        return pairing_steps(config)
    return f"log in again: {login_command(config)}"


def _why_denied(config: ClientConfig) -> str:
    """A token names its client, and is signed again for each new one."""
    subject = read_claims(config.identity.token).subject.split(":")
    who = config.identity
    if subject[:3] == ["client", who.namespace, who.name]:
        return "this token was replaced by a new one"
    if len(subject) == 4 and subject[0] == "client":
        return f"this token is that of {shown('/'.join(subject[1:3]))}"
    return "this token is not valid for it, or not any more"


def _default_path() -> object:
    try:
        return load(None, os.environ).path
    except JumpstarterError:
        return None
