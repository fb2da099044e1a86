"""What a user does about an exporter that refuses a connection: its certificate, TLS at all, the passphrase."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from jumpstarter_proto.rpc import NotGrpcError, RpcError, StatusCode, TlsAdvice

from jumpstarter_client.connections.endpoint import Tcp, Unix

__all__ = ["TLS_ADVICE", "Refusals"]

_PROBE_SECONDS = 3.0
TLS_ADVICE = TlsAdvice(
    untrusted="set SSL_CERT_FILE to a copy of the exporter's --tls-cert, or of the certificate of its CA",
    plain="is it the right port? For an exporter that runs with --insecure, set JMP_GRPC_INSECURE=1",
)


@dataclass(frozen=True)
class Refusals:
    """Explains the errors of calls to one exporter."""

    target: Tcp | Unix
    has_passphrase: bool

    async def explain(self, error: RpcError) -> RpcError:
        """Return the error with the address and the next step if the exporter refuses us, else the error itself."""
        say = partial(RpcError, error.code)
        if isinstance(error, NotGrpcError):
            if isinstance(self.target, Tcp) and self.target.insecure and await _speaks_tls(self.target):
                return say(f"{self.target} speaks TLS; unset {self.target.insecure}")
            reason, _, step = error.details.partition("; ")
            return say(
                f"no exporter answers at {self.target}: {reason}; {step or 'is it the right address?'}"
            )
        if error.code is StatusCode.UNAUTHENTICATED and _refuses_passphrase(error):
            if self.has_passphrase:
                return say(
                    f"the passphrase in JMP_GRPC_PASSPHRASE is not the one of the exporter {self.target}; "
                    "ask its administrator for it"
                )
            return say(f"the exporter {self.target} requires a passphrase; set JMP_GRPC_PASSPHRASE to it")
        return error


def _refuses_passphrase(error: RpcError) -> bool:
    from jumpstarter_proto.remote import ReasonCode, means  # noqa: PLC0415 - only after a failure

    return means(error, ReasonCode.BAD_PASSPHRASE)


async def _speaks_tls(target: Tcp) -> bool:
    """Ask the port. OpenSSL's servers close a connection without TLS and say nothing."""
    from jumpstarter_proto.remote import fetch_certificate  # noqa: PLC0415 - only after a failure

    try:
        await fetch_certificate(target.host, target.port, timeout=_PROBE_SECONDS)
    except RpcError:
        return False
    return True
