"""What a device can be, from its user's point of view, when it cannot do what was asked."""

from __future__ import annotations

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = [
    "DeviceBusy",
    "DeviceError",
    "DeviceFailed",
    "DeviceMissing",
    "ResourceError",
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
