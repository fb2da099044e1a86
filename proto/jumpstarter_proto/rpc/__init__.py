"""gRPC over trio: a channel and a server over any `trio.abc.Stream`.

HTTP/2 and gRPC are implemented here without I/O, with hpack for headers; tasks, deadlines, back-pressure and sockets
are in the modules that use them. purerpc's service API runs on this (`jumpstarter_proto.purerpc_adapter`). A lost
connection fails every open call with UNAVAILABLE at once, deadlines and cancellation reach the handler, a slow reader
bounds its writer's memory, and an error in a handler is a status of its call, never the connection's end.
"""

from jumpstarter_proto.rpc._attempts import Attempts
from jumpstarter_proto.rpc._byte_transport import ByteTransport
from jumpstarter_proto.rpc._channel import Caller, Channel, ClientCall, open_channel
from jumpstarter_proto.rpc._connection_policy import ConnectionLimits
from jumpstarter_proto.rpc._guards import LimitedLog
from jumpstarter_proto.rpc._open_files import connections_allowed
from jumpstarter_proto.rpc._send_buffer import SendBuffer
from jumpstarter_proto.rpc._server import (
    DynamicServicer,
    Interceptor,
    Route,
    ServedConnection,
    Server,
    ServerCall,
    Servicer,
    serve_connection,
    status_of,
)
from jumpstarter_proto.rpc._server_tls import ServerTls
from jumpstarter_proto.rpc._transport import (
    cause_of,
    client_ssl_context,
    connect_tcp,
    connect_unix,
    network_of,
    no_tls_error,
    server_ssl_context,
    tcp_listeners,
    unix_listener,
)
from jumpstarter_proto.rpc._types import (
    Cardinality,
    Message,
    Metadata,
    Method,
    NotGrpcError,
    Options,
    RpcError,
    StatusCode,
    TlsAdvice,
    UntrustedError,
)
from jumpstarter_proto.rpc._unix_paths import socket_address, socket_folder

__all__ = [
    "Attempts",
    "ByteTransport",
    "Caller",
    "Cardinality",
    "Channel",
    "ClientCall",
    "ConnectionLimits",
    "DynamicServicer",
    "Interceptor",
    "LimitedLog",
    "Message",
    "Metadata",
    "Method",
    "NotGrpcError",
    "Options",
    "Route",
    "RpcError",
    "SendBuffer",
    "ServedConnection",
    "Server",
    "ServerCall",
    "ServerTls",
    "Servicer",
    "StatusCode",
    "TlsAdvice",
    "UntrustedError",
    "cause_of",
    "client_ssl_context",
    "connect_tcp",
    "connect_unix",
    "connections_allowed",
    "network_of",
    "no_tls_error",
    "open_channel",
    "serve_connection",
    "server_ssl_context",
    "socket_address",
    "socket_folder",
    "status_of",
    "tcp_listeners",
    "unix_listener",
]
