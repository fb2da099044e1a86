"""A router in its own process: it needs the router key of the lab and a certificate, and stores nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import split_endpoint

from jumpstarter_controller.process.certificate_expiry import CertificateExpiry
from jumpstarter_controller.process.certificates import CertificateError
from jumpstarter_controller.process.serving import (
    Background,
    ListeningServer,
    given_certificate,
    listen,
    metrics_on,
    probe_pages,
    reachable,
    serve,
    tls_of,
)
from jumpstarter_controller.router.credentials import load
from jumpstarter_controller.router.service import LAST_SECONDS, ROUTER_OPTIONS, RouterService
from jumpstarter_controller.router.tokens import RouterTokens

__all__ = ["RouterSettings", "run"]


@dataclass(frozen=True)
class RouterSettings:
    """The settings of a router. Addresses are HOST:PORT; an empty host means all interfaces."""

    key: Path
    listen: str
    endpoint: str | None = None
    """The endpoint for clients and exporters; None: derived from `listen`, with the only name of the certificate."""
    certificate: Path | None = None
    certificate_key: Path | None = None
    metrics_listen: str | None = None


async def run(settings: RouterSettings) -> ExitCode:
    """Serve until SIGTERM or SIGINT. Prints its endpoint.

    Raises:
        PrivateFileError, CertificateError, AddressError: why it cannot start.
    """
    file = load(settings.key)
    certificate = given_certificate(settings.certificate, settings.certificate_key) or file.certificate
    if certificate is None:
        raise CertificateError(
            f"{settings.key} holds no certificate; give one with --tls-cert and --tls-key, "
            "which clients and exporters of this lab trust"
        )
    tls = tls_of(certificate)
    listeners = await listen(settings.listen, tls)
    hosts = certificate.hosts()
    endpoint = settings.endpoint or reachable(
        settings.listen, listeners, hosts[0] if len(hosts) == 1 else None
    )
    host, _ = split_endpoint(endpoint)
    if not certificate.covers(host):
        raise CertificateError(
            f"the certificate in {certificate.chain} is not for {host}, so clients would reject this router; "
            f"say with --endpoint how others reach it, or create a file for {endpoint}"
        )
    service = RouterService(RouterTokens(file.key))
    lines = [f"Router on {endpoint}", f"For the controller: jumpstarter-controller run --router {endpoint}"]
    served = [ListeningServer.public([service], listeners, ROUTER_OPTIONS, LAST_SECONDS)]
    end = CertificateExpiry(certificate)
    background: list[Background] = [service.limit_memory, partial(end.watch, tls)]
    if settings.metrics_listen is not None:
        from jumpstarter_controller.metrics import prometheus  # noqa: PLC0415 - for who asks for it

        page = prometheus.page(prometheus.RouterCollector(service))
        pages = probe_pages(page, served, warning=end.warning)
        task, line = await metrics_on(settings.metrics_listen, pages)
        background.append(task)
        lines.append(line)

    def status() -> str:
        streams = "1 connection" if service.pairs == 1 else f"{service.pairs} connections"
        sentences = (f"router on {endpoint}, {streams} of clients to boards", end.last_warning)
        return "; ".join(filter(None, sentences))

    def changed() -> str:
        try:
            if load(settings.key).key == file.key:
                return ""
        except JumpstarterError as error:
            return f"{error}; the key read at the start stays in use"
        return f"{settings.key} has another key; restart the router to have it read"

    return await serve(served, lines, *background, tls=tls, status=status, unread=changed)
