"""The credentials of a lab's router: one PEM file with the router key of the lab, and a certificate.

The certificate is issued by the controller's CA, which clients and exporters have in their configurations, so they
trust the router. If the controller uses a certificate of another CA, its routers get theirs from that CA as well, and
the file contains only the key.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private
from jumpstarter_proto.remote import split_endpoint

from jumpstarter_controller.identity.keys import ROUTER_KEY_BYTES, random_key
from jumpstarter_controller.process.certificates import Certificate, issue
from jumpstarter_controller.process.data_folder import DataFolder

__all__ = ["RouterFile", "create", "load"]

BEGIN = b"-----BEGIN JUMPSTARTER ROUTER KEY-----\n"
END = b"-----END JUMPSTARTER ROUTER KEY-----\n"


@dataclass(frozen=True)
class RouterFile:
    """A router's file, read."""

    key: bytes
    certificate: Certificate | None
    """In that same file, if there is one."""


def create(folder: DataFolder, endpoint: str, path: Path) -> bool:
    """Write the file of a router that others reach at `endpoint`, for its owner only; whether it has a certificate.

    Raises:
        DataError: the controller of that folder has not run yet.
        EndpointError: the endpoint is none.
        PrivateFileError: the file cannot be written.
    """
    host, _ = split_endpoint(endpoint)
    own = bool(folder.addresses().ca)
    key = base64.encodebytes(random_key(folder.router_key))
    write_private(path, BEGIN + key + END + (issue(folder.path, host) if own else b""))
    return own


def load(path: Path) -> RouterFile:
    """A router's file, or a controller's `router.key`. PrivateFileError if it is neither, or others may read it."""
    data = read_private(path)
    if not data.startswith(BEGIN):
        if len(data) < ROUTER_KEY_BYTES or data.startswith(b"-----"):
            raise PrivateFileError(
                f"{path} is not the file of a router; create one: jumpstarter-controller admin router create "
                "HOST:PORT --save FILE"
            )
        return RouterFile(data, None)
    key, end, rest = data.removeprefix(BEGIN).partition(END)
    try:
        found = base64.b64decode(key.replace(b"\n", b""), validate=True)
    except binascii.Error:
        found = b""
    if not end or len(found) < ROUTER_KEY_BYTES:
        raise PrivateFileError(f"{path} is damaged: its router key is not a key; create it again")
    return RouterFile(found, Certificate(path, path, True) if rest.strip() else None)
