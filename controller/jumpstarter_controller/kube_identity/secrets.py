"""Decides the next step for the Secret with the token of a client or an exporter. No I/O.

Secrets are `NAME-client` and `NAME-exporter`, as Jumpstarter's own administration expects them. Deleting or
emptying a Secret rotates the token. The content of a Secret is never in a message.
"""

from __future__ import annotations

import base64
import binascii
import enum
from dataclasses import dataclass, field

from jumpstarter_proto.remote import Kind

from jumpstarter_controller.identity import Subject
from jumpstarter_controller.lab import Client, Exporter, Record
from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.mapping import revision_of

__all__ = [
    "KEY",
    "KINDS",
    "SecretContent",
    "SecretOwner",
    "SecretStep",
    "content_of",
    "next_step",
    "secret_name",
    "why_blocked",
]

OPAQUE = "Opaque"
"""The type of a Secret that anything may be in; others, such as certificates, are for what their type says."""
KEY = "token"
"""In a Secret's data."""
KINDS: dict[type[Record], Kind] = {Client: Kind.CLIENT, Exporter: Kind.EXPORTER}
"""Of the records that have a Secret."""


def secret_name(kind: type[Record], name: str) -> str:
    """Of the Secret of that client or exporter."""
    return f"{name}-{KINDS[kind].lower()}"


@dataclass(frozen=True)
class SecretOwner:
    """The object that a Secret belongs to."""

    api_version: str
    kind: str
    name: str
    uid: str

    @classmethod
    def of(cls, item: Object) -> SecretOwner:
        """An object as an owner."""
        metadata = item["metadata"]
        return cls(item["apiVersion"], item["kind"], metadata["name"], metadata["uid"])

    @property
    def reference(self) -> Object:
        """For `ownerReferences`: the Secret goes with the object."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def references(self, secret: Object | None) -> list[Object]:
        """The Secret's owners with this one as its controller, and those beside it that others have set."""
        found = dig(secret, "metadata", "ownerReferences")
        others = [one for one in found if not self._is_named(one)] if isinstance(found, list) else []
        return [*others, self.reference]

    def controls(self, secret: Object) -> bool:
        """Whether it does so already."""
        return _controller(secret) == self.reference

    def may_take(self, secret: Object) -> bool:
        """Whether the Secret has no other owner. A deleted object of the same name does not count as owner."""
        controller = _controller(secret)
        return controller is None or self._is_named(controller)

    def _is_named(self, reference: Object) -> bool:
        group = str(reference.get("apiVersion", "")).partition("/")[0]
        mine = self.api_version.partition("/")[0]
        return (group, reference.get("kind"), reference.get("name")) == (mine, self.kind, self.name)


def _controller(secret: Object) -> Object | None:
    found = dig(secret, "metadata", "ownerReferences")
    if not isinstance(found, list):
        return None
    return next((one for one in found if isinstance(one, dict) and one.get("controller")), None)


@dataclass(frozen=True)
class SecretContent:
    """The claims of a token."""

    subject: Subject | None = None
    """Its subject; None: it is not one of our tokens."""
    expires: float = 0.0
    """In seconds since the epoch, as the next."""
    renew_at: float = 0.0
    """When it has to be replaced."""


@dataclass(frozen=True)
class SeenSecret:
    """A Secret, as it was last read."""

    revision: int
    shell: Object
    """The Secret without its content."""
    token: str = field(repr=False)
    """Empty if the Secret was emptied."""

    @classmethod
    def of(cls, secret: Object) -> SeenSecret:
        """A Secret as it came from the server."""
        shell = {"metadata": secret["metadata"], "type": secret.get("type") or OPAQUE}
        return cls(revision_of(secret), shell, content_of(secret))


def content_of(secret: Object) -> str:
    """The token in it; empty where there is none, or nothing that could be one."""
    text = dig(secret, "data", KEY)
    if not isinstance(text, str):
        return ""
    try:
        return base64.b64decode(text, validate=True).strip().decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "?"  # somebody has put something there, which is replaced


class SecretStep(enum.Enum):
    """The next step."""

    KEEP = "keep"
    ADOPT = "adopt"
    """The token is valid. Only set the owner, if necessary."""
    WRITE = "write"
    """Create the Secret, or write a new token into it."""
    ROTATE = "rotate"
    """The token was removed: invalidate all earlier tokens, then write a new one."""
    BLOCKED = "blocked"
    """The Secret belongs to another owner."""


def next_step(
    secret: Object | None,
    content: SecretContent | None,
    owner: SecretOwner,
    subject: Subject,
    *,
    is_out: bool,
    now: float,
) -> SecretStep:
    """What is to be done with a Secret that holds this; None: no token.

    `is_out`: a token of this subject was in it before.
    """
    if secret is not None and not (
        owner.may_take(secret) and (_type_of(secret) == OPAQUE or owner.controls(secret))
    ):
        return SecretStep.BLOCKED
    if secret is None or content is None:
        return SecretStep.ROTATE if is_out else SecretStep.WRITE
    if content.subject != subject or content.renew_at <= now:
        return SecretStep.WRITE
    return SecretStep.KEEP if owner.controls(secret) else SecretStep.ADOPT


def why_blocked(secret: Object) -> str:
    """Say which object owns the Secret, and what to do about it."""
    controller, name = _controller(secret), dig(secret, "metadata", "name")
    if controller is None:
        return (
            f"the Secret {name} is of the type {_type_of(secret)}, so it is for something else, and no token is put "
            "into it; give that another name"
        )
    return (
        f"the Secret {name} belongs to {controller.get('kind')} {controller.get('name')}, so no token can be in it; "
        "give that another name"
    )


def _type_of(secret: Object) -> str:
    return str(secret.get("type") or OPAQUE)
