"""What a driver call can fail with on the user's side, made from the gRPC status that the exporter sent.

The classes are those that test code written for Jumpstarter catches. Each carries the exit code for its cause, so
that a command ends the same way whichever driver failed.
"""

from __future__ import annotations

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import RpcError, StatusCode

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
    """The exit code of a command that ends with this status."""
    return _EXIT_CODES.get(code, ExitCode.FAILED)


class ConnectError(JumpstarterError):
    """No exporter could be reached, or it went away."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


class AddressError(ConnectError):
    """What should say where an exporter is, such as JUMPSTARTER_HOST, is no address."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class NotFoundError(JumpstarterError):
    """No such device, interface, configuration or file; the message lists what there is."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


class DriverError(JumpstarterError):
    """A driver refused or failed. `details` is the exporter's own sentence, `code` the status it came with."""

    def __init__(self, message: str, *, code: StatusCode = StatusCode.UNKNOWN, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details or message
        self.exit_code = exit_code(code)


class DriverMethodNotImplemented(DriverError, NotImplementedError):
    """The driver has no such method, or cannot do this on this hardware."""


class DriverInvalidArgument(DriverError, ValueError):
    """The driver found an argument to be of the wrong type or out of range."""


class ExporterNotReady(DriverError):
    """The exporter or the device is busy with something else; the details say with what."""


_CALL_ERRORS: dict[StatusCode, type[DriverError]] = {
    StatusCode.FAILED_PRECONDITION: ExporterNotReady,
    StatusCode.NOT_FOUND: DriverMethodNotImplemented,
    StatusCode.UNIMPLEMENTED: DriverMethodNotImplemented,
    StatusCode.INVALID_ARGUMENT: DriverInvalidArgument,
}


def call_error(method: str, error: RpcError) -> DriverError:
    """The exception for a unary call that ended with this status."""
    kind = _CALL_ERRORS.get(error.code, DriverError)
    message = f"DriverCall '{method}' failed with gRPC {error.code.name}: {error.details}"
    return _of(kind(message, code=error.code, details=error.details), error)


def streaming_error(method: str, error: RpcError) -> DriverError:
    """The exception for a streaming call or a stream that ended with this status."""
    # An unknown method is a plain DriverError here: that is how test code knows this interface.
    kind = DriverError if error.code is StatusCode.NOT_FOUND else _CALL_ERRORS.get(error.code, DriverError)
    message = error.details or f"'{method}' failed with gRPC {error.code.name}"
    return _of(kind(message, code=error.code, details=error.details), error)


def _of(made: DriverError, error: RpcError) -> DriverError:
    if error.exit_code is ExitCode.LEASE_ENDED:  # no status says this
        made.exit_code = error.exit_code
    return made
