"""The `grpcOptions` of a configuration: those of gRPC's names that mean something here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import Options

__all__ = ["KEEPALIVE", "GrpcOptionError", "options_of"]

KEEPALIVE = Options(keepalive_interval=20.0)
"""Networks forget silent connections without a word. One that is cut is noticed after 40 s."""
MIN_SECONDS = 0.1


class GrpcOptionError(JumpstarterError):
    """A value of `grpcOptions` is invalid."""

    exit_code = ExitCode.USAGE


def options_of(grpc_options: Mapping[str, object]) -> Options:
    """`grpc.keepalive_time_ms` and `grpc.keepalive_timeout_ms`; other options are ignored.

    Raises:
        GrpcOptionError: one of the two is not a number of milliseconds.
    """
    return replace(
        KEEPALIVE,
        keepalive_interval=_seconds(grpc_options, "grpc.keepalive_time_ms", KEEPALIVE.keepalive_interval),
        keepalive_timeout=_seconds(grpc_options, "grpc.keepalive_timeout_ms", KEEPALIVE.keepalive_timeout)
        or KEEPALIVE.keepalive_timeout,
    )


def _seconds(grpc_options: Mapping[str, object], key: str, default: float | None) -> float | None:
    if key not in grpc_options:
        return default
    try:
        seconds = float(str(grpc_options[key])) / 1000
    except ValueError:
        seconds = 0.0
    if not MIN_SECONDS <= seconds < float("inf"):
        raise GrpcOptionError(f"grpcOptions: {key} is {grpc_options[key]!r}; give milliseconds, 100 at least")
    return seconds
