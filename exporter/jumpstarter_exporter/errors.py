"""What a device can be, from its user's point of view, when it cannot do what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = [
    "DeviceBusy",
    "DeviceError",
    "DeviceFailed",
    "DeviceMissing",
    "ResourceError",
    "collapsed",
    "single",
]


class DeviceError(JumpstarterError):
    """A device cannot do what was asked. The message is one sentence that ends with what to do."""


class DeviceMissing(DeviceError):  # noqa: N818 - it is a state, and reads as one
    """The hardware is not there: unplugged, switched off, not answering. Trying again later may help."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


class DeviceBusy(DeviceError):  # noqa: N818 - it is a state, and reads as one
    """Somebody else uses it in a way that allows no second user; the message says for what."""

    status = "FAILED_PRECONDITION"


class DeviceFailed(DeviceError):  # noqa: N818 - it is a state, and reads as one
    """The hardware is there and does not do its work."""

    status = "INTERNAL"


class ResourceError(DeviceError):
    """A file on its way to or from a user cannot be had, or was cut before its end."""

    status = "ABORTED"


def single(error: Exception) -> Exception:
    """The one exception inside of groups of one, as a driver with a nursery of its own raises them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def collapsed() -> Iterator[None]:
    """Raise the one exception of a group as itself, so that its class decides what the user is told."""
    try:
        yield
    except ExceptionGroup as group:
        error = single(group)
        if error is group:
            raise
        raise error from error.__cause__
