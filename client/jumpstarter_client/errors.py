"""The errors of driver calls, made from the gRPC status that the exporter sent.

The class names are those of Jumpstarter, which test code catches. Each error carries its exit code.
"""

from __future__ import annotations

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import Metadata, RpcError, StatusCode

__all__ = [
    "AddressError",
    "ConnectError",
    "DriverError",
    "DriverInvalidArgument",
    "DriverMethodNotImplemented",
    "ExporterNotReady",
    "NotFoundError",
    "call_error",
    "exit_code",
    "streaming_error",
]

_EXIT_CODES = {
    StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: ExitCode.TIMEOUT,
    StatusCode.UNAUTHENTICATED: ExitCode.DENIED,
    StatusCode.PERMISSION_DENIED: ExitCode.DENIED,
}


def exit_code(code: StatusCode) -> ExitCode:
    """Return the exit code for a status."""
    return _EXIT_CODES.get(code, ExitCode.FAILED)


class ConnectError(JumpstarterError):
    """No exporter is reachable, or the connection was lost."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


class AddressError(ConnectError):
    """The address of an exporter, such as JUMPSTARTER_HOST, is invalid."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class NotFoundError(JumpstarterError):
    """The device, interface, configuration or file was not found; the message lists the existing ones."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


class DriverError(JumpstarterError):
    """A driver call failed. `details` is the message of the exporter, `code` its gRPC status.

    `trailing_metadata` is what came with these, such as a reason for programs.
    """

    def __init__(self, message: str, *, code: StatusCode = StatusCode.UNKNOWN, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details or message
        self.trailing_metadata: Metadata = ()
        self.exit_code = exit_code(code)


class DriverMethodNotImplemented(DriverError, NotImplementedError):
    """The driver has no such method, or does not support it on this hardware."""


class DriverInvalidArgument(DriverError, ValueError):
    """The driver rejected an argument: its type is wrong, or its value is out of range."""


class ExporterNotReady(DriverError):
    """The exporter or the device is not ready or is busy; the details have the reason."""


_CALL_ERRORS: dict[StatusCode, type[DriverError]] = {
    StatusCode.FAILED_PRECONDITION: ExporterNotReady,
    StatusCode.NOT_FOUND: DriverMethodNotImplemented,
    StatusCode.UNIMPLEMENTED: DriverMethodNotImplemented,
    StatusCode.INVALID_ARGUMENT: DriverInvalidArgument,
}


def call_error(method: str, error: RpcError) -> DriverError:
    """Return the exception for a unary call with this status."""
    kind = _CALL_ERRORS.get(error.code, DriverError)
    message = f"DriverCall '{method}' failed with gRPC {error.code.name}: {error.details}"
    return _of(kind(message, code=error.code, details=error.details), error)


def streaming_error(method: str, error: RpcError) -> DriverError:
    """Return the exception for a streaming call or a stream with this status."""
    # An unknown method is a plain DriverError here, as test code for Jumpstarter expects.
    kind = DriverError if error.code is StatusCode.NOT_FOUND else _CALL_ERRORS.get(error.code, DriverError)
    message = error.details or f"'{method}' failed with gRPC {error.code.name}"
    return _of(kind(message, code=error.code, details=error.details), error)


def _of(made: DriverError, error: RpcError) -> DriverError:
    made.trailing_metadata = error.trailing_metadata
    if error.exit_code is ExitCode.LEASE_ENDED:  # this exit code has no gRPC status
        made.exit_code = error.exit_code
    return made
