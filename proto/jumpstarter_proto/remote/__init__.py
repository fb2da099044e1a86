"""Calls to a controller and a router, from clients and exporters: identity, trust and retries."""

from jumpstarter_proto.remote.backoff import Backoff
from jumpstarter_proto.remote.controller_channel import (
    CONNECT_SECONDS,
    open_controller,
    open_router,
    open_router_stream,
)
from jumpstarter_proto.remote.grpc_options import KEEPALIVE, GrpcOptionError, options_of
from jumpstarter_proto.remote.identity import (
    ANSWERS,
    WAITS,
    WAITS_FOR_BOARD,
    Identity,
    Kind,
)
from jumpstarter_proto.remote.jwt_claims import Claims, read_claims
from jumpstarter_proto.remote.reasons import REASON, ReasonCode, means, missing_object, reason_of, refused
from jumpstarter_proto.remote.trust import (
    EndpointError,
    Trust,
    fetch_certificate,
    fingerprint_of,
    split_endpoint,
)

__all__ = [
    "ANSWERS",
    "CONNECT_SECONDS",
    "KEEPALIVE",
    "REASON",
    "WAITS",
    "WAITS_FOR_BOARD",
    "Backoff",
    "Claims",
    "EndpointError",
    "GrpcOptionError",
    "Identity",
    "Kind",
    "ReasonCode",
    "Trust",
    "fetch_certificate",
    "fingerprint_of",
    "means",
    "missing_object",
    "open_controller",
    "open_router",
    "open_router_stream",
    "options_of",
    "read_claims",
    "reason_of",
    "refused",
    "split_endpoint",
]
