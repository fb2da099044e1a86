"""The controller process: services over TLS, administration on a socket, and optionally a router."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.process import Daemon, open_daemon
from jumpstarter_proto.remote import Trust, split_endpoint
from jumpstarter_proto.rpc import Options, RpcError, Server, StatusCode, connect_unix, unix_listener
from jumpstarter_proto.tasks import collapsed

from jumpstarter_controller.audit import AuditLimits, AuditLog
from jumpstarter_controller.configuration import Configuration, unread
from jumpstarter_controller.identity import Authenticator, TokenIssuer, random_key, signing_key
from jumpstarter_controller.identity.jumpstarter_key import JUMPSTARTER_AUDIENCE, jumpstarter_key
from jumpstarter_controller.identity.oidc import Issuer
from jumpstarter_controller.identity.tokens import TOKEN_LIFETIME_SECONDS
from jumpstarter_controller.lab import Drain, Exporter
from jumpstarter_controller.process.certificate_expiry import CertificateExpiry
from jumpstarter_controller.process.certificates import Certificate, own_certificate, replica_certificate
from jumpstarter_controller.process.data_folder import Addresses, DataError, DataFolder, KubernetesLab
from jumpstarter_controller.process.serving import (
    EVERY_INTERFACE,
    Background,
    ListeningServer,
    given_certificate,
    listen,
    metrics_on,
    probe_pages,
    reachable,
    serve,
    split_address,
    tls_of,
)
from jumpstarter_controller.process.startup import Startup
from jumpstarter_controller.reconciler.lease_gc import RETENTION_SECONDS, delete_ended_leases
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.replicas import Registry, SharedFilesWatch, share_files
from jumpstarter_controller.replicas.open_store import Shared, open_store
from jumpstarter_controller.replicas.peers import peer_server_context
from jumpstarter_controller.replicas.replica import Replica, own_address
from jumpstarter_controller.router import LAST_SECONDS, ROUTER_OPTIONS, RouterService, RouterTokens
from jumpstarter_controller.scheduling import online
from jumpstarter_controller.services import (
    BoardService,
    CallAuthenticator,
    CallReports,
    ClientService,
    ControllerService,
    DialQueues,
    ExporterService,
    ExporterStreams,
    HealthReports,
    LabService,
    Rendezvous,
    ReplicaService,
    Router,
    Routers,
)
from jumpstarter_controller.services.admin_service import AdminService
from jumpstarter_controller.services.auth import subject_exists
from jumpstarter_controller.services.changes import MAX_LEASES_PER_CLIENT
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.services.enrolment_service import EnrolmentService
from jumpstarter_controller.services.router_watch import watch_routers
from jumpstarter_controller.store import Snapshot, Store
from jumpstarter_controller.store.retry import retried

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from jumpstarter_controller.kube_identity.accounts import Accounts

__all__ = ["ControllerSettings", "administrated", "alone", "run", "status_text"]

_log = logging.getLogger(__name__)
SOCKET_START_SECONDS = 5.0
"""While a controller starts or stops, it may hold the folder's lock this long without a socket; so may a command."""
LOCK_LOOK_SECONDS = 0.05
OPTIONS = Options(
    keepalive_interval=30.0, stream_window=64 * 1024, connection_window=1024 * 1024, unary_seconds=60.0
)
"""Exporters and clients send keep-alive pings every 20 s, so the server pings only peers that do not."""


@dataclass(frozen=True)
class ControllerSettings:
    """The settings of a controller. Addresses are HOST:PORT; an empty host means all interfaces."""

    data: Path
    listen: str
    endpoint: str | None = None
    """The endpoint for clients and exporters; None: derived from `listen`."""
    with_router: bool = False
    router_listen: str = ":8083"
    router_endpoint: str | None = None
    routers: tuple[Router, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    max_leases: int = MAX_LEASES_PER_CLIENT
    """The limit of open leases of a client."""
    metrics_listen: str | None = None
    keep_ended: float = RETENTION_SECONDS
    """Seconds for which ended leases are kept."""
    journal: AuditLimits = AuditLimits()  # noqa: RUF009 - frozen
    configuration: Configuration = Configuration()  # noqa: RUF009 - frozen
    configuration_file: Path | None = None
    """The file that `configuration` was read from."""
    kubernetes: KubernetesLab | None = None
    """Where the records are; None: in the folder."""
    jumpstarter_key: Path | None = None
    """The CONTROLLER_KEY of a controller of Jumpstarter 0.9, whose tokens are accepted."""
    replica_listen: str = ":0"
    """For other controllers of a lab in Kubernetes."""
    replica_endpoint: str | None = None
    """HOST:PORT as they reach it; otherwise this host's address towards the API server."""


async def run(settings: ControllerSettings) -> ExitCode:
    """Serve until SIGTERM or SIGINT. Says where it listens on stdout.

    Raises:
        DataError, StoreError, PrivateFileError, CertificateError: why it cannot start.
    """
    folder = DataFolder(settings.data)
    folder.prepare()
    with open_daemon() as daemon:
        async with alone(folder):
            return await _run_alone(settings, folder, daemon)


@asynccontextmanager
async def alone(folder: DataFolder) -> AsyncIterator[None]:
    """Lock the folder during the block. A command of its administrator may have it for a moment.

    Raises:
        DataError: another process has locked it.
    """
    deadline = trio.current_time() + SOCKET_START_SECONDS
    while True:
        with ExitStack() as attempt:
            if attempt.enter_context(folder.locked()):
                yield
                return
        for place in folder.places:
            with suppress(RpcError):
                await (await connect_unix(place.socket)).aclose()
                raise DataError(f"another controller uses {place.path}; stop it, or choose another --data")
        if trio.current_time() >= deadline:
            raise DataError(
                f"another process has locked {folder.path}: a controller that starts or ends, or a command such as "
                "`admin restore`; wait until it has ended, or choose another --data"
            )
        await trio.sleep(LOCK_LOOK_SECONDS)


async def _run_alone(settings: ControllerSettings, folder: DataFolder, daemon: Daemon) -> ExitCode:
    folder.check_whole()
    store, shared = open_store(folder, settings.kubernetes)
    replica = None if shared is None else Replica(shared, folder.replica())
    try:
        with collapsed():
            async with trio.open_nursery() as nursery:
                code = await _start(
                    settings, folder, store, shared, replica, startup=Startup(daemon), nursery=nursery
                )
                nursery.cancel_scope.cancel()
        return code
    finally:
        if replica is not None:
            await replica.leave()
        store.close()


async def _start(
    settings: ControllerSettings,
    folder: DataFolder,
    store: Store,
    shared: Shared | None,
    replica: Replica | None,
    *,
    startup: Startup,
    nursery: trio.Nursery,
) -> ExitCode:
    """Serve as soon as the store can be read. Tasks that run beside serving start in the nursery."""
    line = ""
    if settings.metrics_listen is not None:
        task, line = await metrics_on(settings.metrics_listen, startup.pages)
        await nursery.start(task)
    if replica is None or shared is None:
        reconciler = Reconciler(store, max_leases=settings.max_leases)
        return await _run(settings, folder, store, reconciler, startup, metrics_line=line)
    await _check_arguments(settings)
    snapshot: Snapshot | None = None

    async def read() -> None:
        nonlocal snapshot
        await replica.leadership.until_known(startup.say)
        files, precious = _shared_files(settings, folder), (folder.signing_key, folder.router_key)
        await retried(partial(share_files, shared.secret, files, precious), startup.say)
        registry = await _registry(settings, folder, shared, replica)
        await registry.join(partial(retried, say=startup.say))
        nursery.start_soon(registry.run)
        await replica.leadership.until_open(lambda: replica.members.living, startup.say)
        snapshot = await retried(store.snapshot, startup.say)
        if settings.kubernetes is not None and settings.kubernetes.tokens == "serviceaccounts":
            from jumpstarter_controller.kube_identity.accounts import wait_for_reviews  # noqa: PLC0415 - large

            await wait_for_reviews(store, startup.say)

    nursery.start_soon(replica.leadership.run)
    if (code := await startup.run(read)) is not None:
        return code
    reconciler = Reconciler(
        store,
        snapshot=snapshot,
        max_leases=settings.max_leases,
        leads=replica.leadership.leads,
        replica=replica.identity,
    )
    replica.drive(reconciler)
    watch = await trio.to_thread.run_sync(SharedFilesWatch, shared.secret, _shared_files(settings, folder))
    nursery.start_soon(watch.run)
    return await _run(
        settings, folder, store, reconciler, startup, metrics_line=line, replica=replica, shared_files=watch
    )


async def _registry(
    settings: ControllerSettings, folder: DataFolder, shared: Shared, replica: Replica
) -> Registry:
    """Listen for other controllers of the lab. AddressError: that cannot be."""
    certificate = replica_certificate(folder.path)
    option = "--replica-listen"
    host, port = split_address(settings.replica_listen, option)
    own = await trio.to_thread.run_sync(own_address, shared.url, abandon_on_cancel=True)
    # Every interface would get a port of its own, if each may choose one.
    address = settings.replica_listen if host or port else f"[{own}]:0" if ":" in own else f"{own}:0"
    listeners = await listen(address, None, peer_server_context(certificate), option=option)
    reached = settings.replica_endpoint or reachable(address, listeners, own)
    return replica.prepare(reached, listeners, certificate)


def _shared_files(settings: ControllerSettings, folder: DataFolder) -> dict[Path, Callable[[], object]]:
    """The files that all controllers of a lab share, with the functions that create them."""
    files: dict[Path, Callable[[], object]] = {
        folder.signing_key: partial(signing_key, folder.signing_key),
        folder.router_key: partial(random_key, folder.router_key),
    }
    if settings.certificate is None:
        own = [folder.path / "tls.crt", folder.path / "tls.key"]
        files |= dict.fromkeys(own, partial(_certificate, settings, folder))
    replicas = [folder.path / "replicas.crt", folder.path / "replicas.key"]
    files |= dict.fromkeys(replicas, partial(replica_certificate, folder.path))
    return files


async def _check_arguments(settings: ControllerSettings) -> None:
    """Check the settings first, because reading the store may take long.

    Raises:
        CertificateError, AddressError, EndpointError: what is wrong.
    """
    if settings.replica_endpoint is not None:
        split_endpoint(settings.replica_endpoint)
    if (given := given_certificate(settings.certificate, settings.key)) is not None:
        tls_of(given)
    addresses = {"--listen": settings.listen}
    if settings.with_router:
        addresses["--router-listen"] = settings.router_listen
    for option, address in addresses.items():
        for listener in await listen(address, None, option=option):
            await listener.aclose()


async def _run(
    settings: ControllerSettings,
    folder: DataFolder,
    store: Store,
    reconciler: Reconciler,
    startup: Startup,
    *,
    metrics_line: str,
    replica: Replica | None = None,
    shared_files: SharedFilesWatch | None = None,
) -> ExitCode:
    certificate = _certificate(settings, folder)
    end = CertificateExpiry(certificate)
    end.renew_in_time()
    tls = tls_of(certificate)
    listeners = await listen(settings.listen, tls)
    endpoint = settings.endpoint or reachable(settings.listen, listeners)
    configuration = settings.configuration
    addresses = _addresses(endpoint, certificate, settings)
    folder.remember(addresses)
    issuer = _issuer(folder, addresses)
    tokens = RouterTokens(random_key(folder.router_key))
    all_routers = list(settings.routers)
    served: list[ListeningServer] = []
    journal = open_audit_log(folder, reconciler, settings.journal)
    background: list[Background] = [
        reconciler.run,
        journal.run,
        partial(delete_ended_leases, reconciler, settings.keep_ended),
        partial(end.watch, tls),
    ]
    router: RouterService | None = None
    lines = [f"Listening on {endpoint}"]
    if settings.with_router:
        router_listeners = await listen(settings.router_listen, tls, option="--router-listen")
        reached = settings.router_endpoint or reachable(settings.router_listen, router_listeners)
        all_routers.append(Router(reached))
        router = RouterService(tokens)
        served.append(ListeningServer.public([router], router_listeners, ROUTER_OPTIONS, LAST_SECONDS))
        background.append(router.limit_memory)
        lines.append(f"Router on {reached}")
    if certificate.self_signed:
        lines.append(f"Certificate fingerprint {certificate.fingerprint()}")
    external = tuple(Issuer(one) for one in configuration.issuers)
    accounts = _accounts(store, addresses)
    authenticator = Authenticator(
        issuer, external, accounts, former=_former(settings), exists=partial(subject_exists, reconciler)
    )
    auth = CallAuthenticator(reconciler, authenticator, configuration.provisioned)
    listening = DialQueues()
    credentials = CredentialIssuer(issuer, addresses, accounts)
    if settings.kubernetes is not None:
        from jumpstarter_controller.kube_identity.opening import keepers_of  # noqa: PLC0415 - for who asks for it

        keepers = partial(keepers_of, store, reconciler, credentials, accounts)
        assert replica is not None
        background.append(partial(replica.leadership.while_leads, keepers))
    if not all_routers:
        _log.warning(
            "there is no router, so leases cannot connect to their boards; add --with-router or --router HOST:PORT"
        )
    routers = Routers(all_routers, tokens.issue)

    def shown_anew() -> None:
        try:
            credentials.addresses = _addresses(endpoint, certificate, settings)
            folder.remember(credentials.addresses)
        except (OSError, JumpstarterError) as error:  # as when the disk is full; the next start does it
            _log.warning("newly enrolled clients and exporters may get the previous certificate: %s", error)

    tls.on_change = shown_anew
    streams = ExporterStreams(reconciler, auth, None if replica is None else replica.peers)
    rendezvous = Rendezvous(listening, None if replica is None else replica.peers)
    background.append(streams.run)
    if replica is not None:
        peers = Server([ReplicaService(reconciler, listening, streams.instances)])
        served.append(ListeningServer(peers, replica.listeners))
        background += [partial(replica.relay, reconciler), replica.peers.run]
    health = HealthReports(reconciler)
    services = [
        ControllerService(reconciler, auth, rendezvous, routers, streams, max_leases=settings.max_leases),
        ExporterService(reconciler, streams, health, CallReports(reconciler, journal)),
        ClientService(reconciler, auth, credentials.token, settings.max_leases),
        LabService(reconciler, auth, health),
        BoardService(reconciler, auth, credentials),
        EnrolmentService(reconciler, auth, credentials, issuers=configuration.issuers),
    ]
    served.append(
        ListeningServer.public(
            services, listeners, OPTIONS, interceptors=[reconciler.counters.count, auth.greet]
        )
    )
    admin = AdminService(reconciler, credentials, journal)
    folder.socket.unlink(missing_ok=True)  # ours alone: we hold the lock
    served.append(ListeningServer(Server([admin]), [unix_listener(folder.socket)]))
    # Check the routers the way clients do. With a certificate from another CA we cannot know what clients trust.
    ca = base64.b64encode(addresses.ca.encode()).decode()
    background.append(partial(watch_routers, routers, settings.routers, Trust(ca=ca, insecure=not ca)))

    def warning() -> str:
        return "; ".join(filter(None, (end.warning(), "" if shared_files is None else shared_files.warning)))

    if settings.metrics_listen is not None:
        from jumpstarter_controller.metrics import prometheus  # noqa: PLC0415 - for who asks for it

        collectors: list[Collector] = [prometheus.LabCollector(reconciler, auth.refusals, health, journal)]
        if router is not None:
            collectors.append(prometheus.RouterCollector(router))
        page = prometheus.page(*collectors)
        startup.pages |= probe_pages(page, served, partial(_trouble, reconciler, replica), warning)
        lines.append(metrics_line)

    def changed() -> str:
        file = settings.configuration_file
        return "" if file is None else unread(file, configuration)

    if (drain := reconciler.committed.get(Drain, Drain.KEY)) is not None:
        _log.warning("%s", drained_text(drain))
    try:
        return await serve(
            served,
            lines,
            *background,
            tls=tls,
            status=partial(status_text, reconciler, journal, end),
            unread=changed,
            startup=startup,
        )
    finally:
        folder.socket.unlink(missing_ok=True)


def _trouble(reconciler: Reconciler, replica: Replica | None) -> str:
    """The reason why requests should go to other controllers; empty if this one can serve them."""
    return reconciler.trouble or (replica.leadership.trouble if replica is not None else "")


def status_text(reconciler: Reconciler, journal: AuditLog, end: CertificateExpiry) -> str:
    """The number of exporters and leases, and all problems, for `systemctl status`."""
    now, view = reconciler.clock(), reconciler.committed
    there = sum(online(one, reconciler.presence, now) for one in view.all(Exporter))
    leases = list(view.open_leases())
    active = sum(lease.active for lease in leases)
    drain = view.get(Drain, Drain.KEY)
    sentences = (
        "" if drain is None else drained_text(drain),
        f"{there} of {view.count(Exporter)} exporters online",
        f"{active} leases active, {len(leases) - active} waiting",
        reconciler.trouble,
        reconciler.damage,
        journal.trouble and f"entries of the journal may get lost: {journal.trouble}",
        end.last_warning,
    )
    return "; ".join(filter(None, sentences))


def drained_text(drain: Drain) -> str:
    """That no lease begins, since when, why, and how to change it."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(drain.created))
    why = f" ({drain.reason})" if drain.reason else ""
    return f"drained since {since}{why}: no lease begins until `jumpstarter-controller resume`"


async def _connected(folder: DataFolder, stack: AsyncExitStack) -> trio.SocketStream | None:
    """A connection to the controller that runs; None if none does, and none starts until the stack is closed."""
    deadline = trio.current_time() + SOCKET_START_SECONDS
    while True:
        attempt = stack.enter_context(ExitStack())
        if attempt.enter_context(folder.locked()):
            return None
        attempt.close()
        try:
            return await connect_unix(folder.socket)
        except RpcError as error:
            if error.code is not StatusCode.UNAVAILABLE or trio.current_time() >= deadline:
                raise RpcError(
                    error.code,
                    f"the controller of {folder.path} runs, but does not answer on {folder.socket.name} "
                    "(it may just be starting or ending, or another command uses the folder); try again",
                ) from error
        await trio.sleep(LOCK_LOOK_SECONDS)


@asynccontextmanager
async def administrated(data: Path) -> AsyncIterator[trio.abc.Stream]:
    """A connection to the AdminService of that folder: of the controller that runs, or of one for the moment.

    Raises:
        DataError: it has never run.
        RpcError: UNAVAILABLE, it runs but does not answer.
    """
    folder = DataFolder(data)
    if not folder.exists:
        folder.addresses()  # says what is missing, and makes nothing
    folder.prepare()
    async with AsyncExitStack() as stack:
        if (stream := await _connected(folder, stack)) is not None:
            yield stream
            return
        folder.check_whole()
        addresses = folder.addresses()
        store, shared = open_store(folder, addresses.kubernetes)
        stack.callback(store.close)
        reconciler = Reconciler(store, leads=lambda: shared is None)  # a controller may run elsewhere
        issuer = _issuer(folder, addresses)
        journal = open_audit_log(folder, reconciler, AuditLimits.none())
        credentials = CredentialIssuer(issuer, addresses, _accounts(store, addresses))
        admin = AdminService(reconciler, credentials, journal)
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            await nursery.start(reconciler.run)
            nursery.start_soon(Server([admin]).serve_connection, far)
            yield near
            nursery.cancel_scope.cancel()


def open_audit_log(folder: DataFolder, reconciler: Reconciler, limits: AuditLimits | None = None) -> AuditLog:
    """Open the audit log of this reconciler. A clock that is set forward does not expire its entries."""
    clock = reconciler.clock
    journal = AuditLog(
        folder.journal,
        clock,
        oldest=lambda seconds: clock() - max(0.0, clock.moved) - seconds,
        limits=limits,
    )
    reconciler.record = journal.write
    return journal


def _addresses(endpoint: str, certificate: Certificate, settings: ControllerSettings) -> Addresses:
    return Addresses(
        endpoint,
        certificate.pinned(),
        certificate.fingerprint(),
        settings.configuration.token_seconds,
        certificate.ends(),
        settings.kubernetes,
    )


def _issuer(folder: DataFolder, addresses: Addresses) -> TokenIssuer:
    lifetime = addresses.token_seconds or TOKEN_LIFETIME_SECONDS
    return TokenIssuer(signing_key(folder.signing_key), addresses.endpoint, lifetime=lifetime)


def _former(settings: ControllerSettings) -> TokenIssuer | None:
    """The key of a former controller, whose tokens are accepted. DataError: the key file cannot be read."""
    file = settings.jumpstarter_key
    if file is None:
        return None
    try:
        secret = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}; check the path after --jumpstarter-key"
        ) from None
    if not secret:
        raise DataError(f"{file} is empty; put the value of CONTROLLER_KEY there, without a line end")
    _log.warning(
        "tokens of the Jumpstarter controller whose key is in %s are valid here; the key can be "
        "guessed from any of them, so create new tokens for everybody, and then remove --jumpstarter-key",
        file,
    )
    return TokenIssuer(jumpstarter_key(secret), JUMPSTARTER_AUDIENCE)


def _accounts(store: Store, addresses: Addresses) -> Accounts | None:
    """The ServiceAccounts that issue tokens; None if the controller signs them itself."""
    if addresses.kubernetes is None or addresses.kubernetes.tokens == "own":
        return None
    from jumpstarter_controller.kube_identity.opening import accounts_of  # noqa: PLC0415 - for who asks for it

    return accounts_of(store, addresses)


def _certificate(settings: ControllerSettings, folder: DataFolder) -> Certificate:
    if (given := given_certificate(settings.certificate, settings.key)) is not None:
        return given
    named = (settings.endpoint, settings.router_endpoint)
    hosts = [split_endpoint(one)[0] for one in named if one]
    listening = (settings.listen, settings.router_listen)
    hosts += [host for one in listening if (host := split_address(one)[0]) not in EVERY_INTERFACE]
    certificate = own_certificate(folder.path, hosts)
    if missing := [host for host in hosts if not certificate.covers(host)]:
        _log.warning(
            "the certificate in %s was made before and is not for %s: clients that trust it cannot connect "
            "there; use the previous address, or move tls.crt and tls.key away and create the configurations again",
            folder.path,
            ", ".join(missing),
        )
    return certificate
