"""0.9.0's ControllerService and ClientService, on the objects of `scheduling`."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import jwt
import trustme
from google.protobuf import empty_pb2, message_factory
from grpc import StatusCode
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.v1 import jumpstarter_pb2, kubernetes_pb2, router_pb2
from jumpstarter_proto.v1.common_pb2 import ExporterStatus

from tests.support.upstream_controller import router
from tests.support.upstream_controller.scheduling import (
    ExporterObject,
    LeaseObject,
    dial_refusal,
    reconcile,
)

PARENT = "namespaces/default"
THREADS = 64
RETRY_SECONDS = 1.0
"""A lease that waits is looked at again so late."""
SEEN_SECONDS = 10.0
"""An exporter on its status stream is seen so often."""
AVAILABLE_SECONDS = (0.5, 3.0, 30.0)
"""A dial looks again at an exporter that is still Available: at first, at last, and how long."""
TOKEN_SECONDS = 1800
PING_SECONDS = 1.0
"""Peers may ping so often."""
YEAR_SECONDS = 365 * 86400
QUEUE_LENGTH = 8
PREFIX = "EXPORTER_STATUS_"


@dataclass
class Listener:
    """A lease's exporter on its listen stream."""

    tokens: queue.Queue[Any] = field(default_factory=lambda: queue.Queue(QUEUE_LENGTH))
    is_over: bool = False


class UpstreamController:
    """Serves on a port of the loopback while `serving` is open. All its seconds pass `rate` times as fast."""

    def __init__(self, port: int, rate: float = 1.0) -> None:
        self.endpoint = f"127.0.0.1:{port}"
        self.rate = rate
        authority = trustme.CA()
        self.ca = authority.cert_pem.bytes()
        self._certificate = authority.issue_cert("127.0.0.1")
        self.exporters: dict[str, ExporterObject] = {}
        self.leases: dict[str, LeaseObject] = {}
        self.dials: list[tuple[str, str]] = []
        """Each dial's lease, and why it was refused; empty if it was not."""
        self.listened: list[str] = []
        """The leases that their exporter has listened for, once for each time."""
        self.changed = threading.Condition(threading.RLock())
        self.listeners: dict[str, Listener] = {}
        self._tokens: dict[str, tuple[str, str]] = {}
        self._are_held = False
        self.is_stopping = False

    # What tests do with it.

    def create(self, kind: str, name: str, labels: dict[str, str]) -> str:
        """A new Client or Exporter; its token."""
        now = int(time.time())
        claims = {
            "iss": "https://localhost:8085",
            "aud": ["jumpstarter"],
            "iat": now,
            "exp": now + YEAR_SECONDS,
        }
        subject = f"{kind.lower()}:{PARENT.rpartition('/')[2]}:{name}:{uuid.uuid4()}"
        token = jwt.encode(claims | {"sub": subject}, router.KEY, "HS256")
        with self.changed:
            self._tokens[token] = (kind, name)
            if kind == "Exporter":
                self.exporters[name] = ExporterObject(name, labels)
        return token

    @contextmanager
    def reports_held(self) -> Iterator[Callable[[], None]]:
        """What exporters report of their status is on its way until the end of the block, or until it is called."""

        def let_pass() -> None:
            with self.changed:
                self._are_held = False
                self.changed.notify_all()

        self._are_held = True
        try:
            yield let_pass
        finally:
            let_pass()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """All of it; the router, too."""
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="upstream")
        pings = [
            ("grpc.http2.min_ping_interval_without_data_ms", int(PING_SECONDS / self.rate * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0), *pings])
        controller = jumpstarter_pb2.DESCRIPTOR.services_by_name["ControllerService"]
        clients = client_pb2.DESCRIPTOR.services_by_name["ClientService"]
        streams = router_pb2.DESCRIPTOR.services_by_name["RouterService"]
        server.add_generic_rpc_handlers(
            (
                _handlers(controller, ControllerService(self)),
                _handlers(clients, ClientService(self)),
                _handlers(streams, router.UpstreamRouter()),
            )
        )
        key = self._certificate.private_key_pem.bytes()
        chain = b"".join(one.bytes() for one in self._certificate.cert_chain_pems)
        server.add_secure_port(self.endpoint, grpc.ssl_server_credentials([(key, chain)]))
        server.start()
        ticking = threading.Thread(target=self._reconcile_again, name="upstream-reconciler")
        ticking.start()
        try:
            yield
        finally:
            with self.changed:
                self.is_stopping = True
                self.changed.notify_all()
            server.stop(None).wait()
            ticking.join()
            pool.shutdown()

    # What its services do; with `changed` held.

    @property
    def now(self) -> float:
        return time.monotonic() * self.rate

    def wait(self, seconds: float) -> None:
        """Until something has changed, and at most so long."""
        self.changed.wait(seconds / self.rate)

    def reconcile(self, *leases: LeaseObject) -> None:
        for lease in leases:
            reconcile(lease, self.leases.values(), self.exporters, now=self.now, wall=time.time())
        self.changed.notify_all()

    def _reconcile_again(self) -> None:
        with self.changed:
            while not self.is_stopping:
                self.reconcile(*self.leases.values())
                end = self.now + RETRY_SECONDS
                while not self.is_stopping and (left := end - self.now) > 0:
                    self.wait(left)

    def until_reports_pass(self, context: Any) -> None:
        while self._are_held and context.is_active() and not self.is_stopping:
            self.wait(SEEN_SECONDS)

    def caller(self, context: Any, *kinds: str) -> tuple[str, str]:
        """The kind and the name of who calls, if it is of one of these kinds."""
        words = dict(context.invocation_metadata())
        if (authorization := words.get("authorization")) is None:
            context.abort(StatusCode.UNAUTHENTICATED, "missing authorization header")
        found = self._tokens.get(str(authorization).removeprefix("Bearer "))
        if found is None:
            context.abort(StatusCode.UNKNOWN, "failed to authenticate token")
        for key in ("jumpstarter-namespace", "jumpstarter-kind", "jumpstarter-name"):
            if key not in words:
                context.abort(StatusCode.INVALID_ARGUMENT, f"missing metadata: {key}")
        if words["jumpstarter-kind"] not in kinds:
            context.abort(StatusCode.INVALID_ARGUMENT, "object kind mismatch")
        if found != (words["jumpstarter-kind"], words["jumpstarter-name"]):
            context.abort(StatusCode.PERMISSION_DENIED, f"permission denied for {words['jumpstarter-name']}")
        return found

    def exporter(self, context: Any) -> ExporterObject:
        return self.exporters[self.caller(context, "Exporter")[1]]

    def lease(self, context: Any, name: str) -> LeaseObject:
        if (found := self.leases.get(name)) is None:
            context.abort(StatusCode.UNKNOWN, f'leases.jumpstarter.dev "{name}" not found')
        return found

    def lease_of(self, exporter: ExporterObject) -> LeaseObject | None:
        """The reference in the exporter's status: to the lease of it that has not ended."""
        held = (one for one in self.leases.values() if one.exporter == exporter.name and not one.is_ended)
        return next(held, None)


class ControllerService:
    """For exporters, but for `Dial`."""

    def __init__(self, controller: UpstreamController) -> None:
        self._controller = controller

    def Register(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._controller.changed:
            self._controller.exporter(context).devices = len(request.reports)
            self._controller.changed.notify_all()
        return jumpstarter_pb2.RegisterResponse(uuid=str(uuid.uuid4()))

    def Unregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._controller.changed:
            exporter = self._controller.exporter(context)
            exporter.devices = 0
            exporter.unregistered += 1
            self._controller.changed.notify_all()
        return jumpstarter_pb2.UnregisterResponse()

    def ReportStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        lab = self._controller
        with lab.changed:
            exporter = lab.exporter(context)
            lab.until_reports_pass(context)
            if not context.is_active():
                return jumpstarter_pb2.ReportStatusResponse()
            status = ExporterStatus.Name(request.status).removeprefix(PREFIX)
            exporter.report(status, request.message, lab.now)
            lease = lab.lease_of(exporter)
            if request.release_lease and lease is not None:
                lease.release = True
                lab.reconcile(lease)
            lab.changed.notify_all()
        return jumpstarter_pb2.ReportStatusResponse()

    def Listen(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        lab = self._controller
        with lab.changed:
            exporter = lab.exporter(context)
            if not request.lease_name:
                context.abort(StatusCode.UNKNOWN, "empty lease name")
            if lab.lease(context, request.lease_name).exporter != exporter.name:
                context.abort(StatusCode.UNKNOWN, "permission denied")
            mine = Listener()
            if (old := lab.listeners.get(request.lease_name)) is not None:
                old.is_over = True  # when its reader has had what is in it
            lab.listeners[request.lease_name] = mine
            lab.listened.append(request.lease_name)
            lab.changed.notify_all()
        context.add_callback(lambda: _notify(lab))
        while True:
            with lab.changed:
                while mine.tokens.empty():
                    if mine.is_over or lab.is_stopping or not context.is_active():
                        if lab.listeners.get(request.lease_name) is mine:
                            del lab.listeners[request.lease_name]
                        return
                    lab.wait(SEEN_SECONDS)
                item = mine.tokens.get_nowait()
            yield item

    def Status(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        lab = self._controller
        context.add_callback(lambda: _notify(lab))
        sent: tuple[bool, str, str] | None = None
        with lab.changed:
            exporter = lab.exporter(context)
            exporter.connect(lab.now)
            lab.changed.notify_all()
        while True:
            with lab.changed:
                while True:
                    if lab.is_stopping or not context.is_active():
                        return
                    lease = lab.lease_of(exporter)
                    found = (True, lease.name, lease.client) if lease is not None else (False, "", "")
                    if found != sent:
                        break
                    left = SEEN_SECONDS - (lab.now - (exporter.seen or 0))
                    if left <= 0:
                        exporter.seen = lab.now
                        continue
                    lab.wait(left)
                sent = found
            leased, name, client = found
            yield jumpstarter_pb2.StatusResponse(leased=leased, lease_name=name, client_name=client)

    def ReleaseLease(self, request: Any, context: Any) -> Any:  # noqa: N802
        lab = self._controller
        with lab.changed:
            kind, name = lab.caller(context, "Exporter", "Client")
            lease = lab.leases.get(request.name)
            if kind == "Exporter":
                if lease is None:
                    context.abort(StatusCode.NOT_FOUND, f"lease {request.name} not found")
                if lease.exporter != name:
                    context.abort(
                        StatusCode.FAILED_PRECONDITION,
                        f"lease {request.name} is not held by exporter {name}",
                    )
            elif lease is None or lease.client != name:
                context.abort(StatusCode.UNKNOWN, "ReleaseLease permission denied")
            lease.release = True
            lab.reconcile(lease)
        return jumpstarter_pb2.ReleaseLeaseResponse()

    def Dial(self, request: Any, context: Any) -> Any:  # noqa: N802
        lab = self._controller

        def refuse(code: StatusCode, details: str) -> NoReturn:
            lab.dials.append((request.lease_name, details))
            context.abort(code, details)
            raise AssertionError

        with lab.changed:
            _, client = lab.caller(context, "Client")
            if not request.lease_name:
                refuse(StatusCode.UNKNOWN, "empty lease name")
            lease = lab.lease(context, request.lease_name)
            if lease.client != client:
                refuse(StatusCode.UNKNOWN, "permission denied")
            if not lease.exporter:
                refuse(StatusCode.UNKNOWN, "lease not active")
            exporter = lab.exporters[lease.exporter]
            pause, longest, limit = AVAILABLE_SECONDS
            end = lab.now + limit
            while exporter.status == "AVAILABLE":
                if lab.now >= end or not context.is_active():
                    refuse(StatusCode.FAILED_PRECONDITION, "exporter is not ready (status: Available)")
                again = lab.now + pause
                while (left := again - lab.now) > 0:
                    lab.wait(left)
                pause = min(pause * 2, longest)
            if refusal := dial_refusal(exporter.status):
                refuse(StatusCode.FAILED_PRECONDITION, refusal)
            now = int(time.time())
            claims = {"iss": router.ISSUER, "aud": [router.AUDIENCE], "sub": str(uuid.uuid4())}
            claims |= {"exp": now + TOKEN_SECONDS, "nbf": now, "iat": now, "jti": str(uuid.uuid4())}
            token = jwt.encode(claims, router.KEY, "HS256")
            listener = lab.listeners.get(lease.name)
            if listener is None:
                refuse(StatusCode.UNAVAILABLE, f"exporter is not listening on lease {lease.name}")
            item = {"router_endpoint": lab.endpoint, "router_token": token}
            try:
                listener.tokens.put_nowait(jumpstarter_pb2.ListenResponse(**item))
            except queue.Full:
                refuse(StatusCode.RESOURCE_EXHAUSTED, f"listener buffer full on lease {lease.name}")
            lab.dials.append((lease.name, ""))
            lab.changed.notify_all()
        return jumpstarter_pb2.DialResponse(**item)


class ClientService:
    """For clients."""

    def __init__(self, controller: UpstreamController) -> None:
        self._controller = controller

    def GetExporter(self, request: Any, context: Any) -> Any:  # noqa: N802
        lab = self._controller
        with lab.changed:
            lab.caller(context, "Client")
            name = request.name.rpartition("/")[2]
            if (found := lab.exporters.get(name)) is None:
                context.abort(StatusCode.UNKNOWN, f'exporters.jumpstarter.dev "{name}" not found')
            return _exporter_message(lab, name, found)

    def ListExporters(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Those that have labels like `k=v`."""
        lab = self._controller
        asked = {tuple(one.split("=")) for one in request.filter.split(",") if one}
        with lab.changed:
            lab.caller(context, "Client")
            found = [
                _exporter_message(lab, name, one)
                for name, one in lab.exporters.items()
                if asked <= set(one.labels.items())
            ]
            return client_pb2.ListExportersResponse(exporters=found)

    def CreateLease(self, request: Any, context: Any) -> Any:  # noqa: N802
        """It returns at once; the first turn of the reconciler is over before the client asks again."""
        lab = self._controller
        asked = request.lease
        with lab.changed:
            _, client = lab.caller(context, "Client")
            if not asked.selector and not asked.exporter_name:
                context.abort(StatusCode.INVALID_ARGUMENT, "one of selector or exporter_name is required")
            if not (seconds := asked.duration.ToNanoseconds() / 1e9) > 0:
                context.abort(StatusCode.UNKNOWN, "duration is required")
            selector = dict(one.split("=") for one in asked.selector.split(",") if one)
            name = request.lease_id or str(uuid.uuid4())
            lease = LeaseObject(name, client, selector, asked.exporter_name, seconds)
            lab.leases[name] = lease
            answer = _lease_message(lease)
            lab.reconcile(lease)
        return answer

    def GetLease(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._controller.changed:
            self._controller.caller(context, "Client")
            return _lease_message(self._controller.lease(context, request.name.rpartition("/")[2]))

    def ListLeases(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._controller.changed:
            self._controller.caller(context, "Client")
            is_active = request.only_active or not request.HasField("only_active")
            found = [one for one in self._controller.leases.values() if not (is_active and one.is_ended)]
            return client_pb2.ListLeasesResponse(leases=map(_lease_message, found))

    def DeleteLease(self, request: Any, context: Any) -> Any:  # noqa: N802
        lab = self._controller
        with lab.changed:
            _, client = lab.caller(context, "Client")
            lease = lab.lease(context, request.name.rpartition("/")[2])
            if lease.client != client:
                context.abort(StatusCode.UNKNOWN, "DeleteLease permission denied")
            if lease.release:
                context.abort(StatusCode.FAILED_PRECONDITION, "the lease is marked for release already")
            lease.release = True
            lab.reconcile(lease)
        return empty_pb2.Empty()


def _exporter_message(lab: UpstreamController, name: str, found: ExporterObject) -> Any:
    return client_pb2.Exporter(
        name=f"{PARENT}/exporters/{name}",
        labels=found.labels,
        online=found.is_online(lab.now),
        status=PREFIX + (found.status or "UNSPECIFIED"),
        enabled=True,
    )


def _notify(lab: UpstreamController) -> None:
    with lab.changed:
        lab.changed.notify_all()


def _lease_message(lease: LeaseObject) -> Any:
    message = client_pb2.Lease(
        name=f"{PARENT}/leases/{lease.name}",
        selector=",".join(f"{key}={value}" for key, value in sorted(lease.selector.items())) or "<none>",
        exporter_name=lease.wanted,
        client=f"{PARENT}/clients/{lease.client}",
        exporter=f"{PARENT}/exporters/{lease.exporter}" if lease.exporter else "",
        conditions=[
            kubernetes_pb2.Condition(type=kind, status=one.status, reason=one.reason, message=one.message)
            for kind, one in lease.conditions.items()
        ],
    )
    message.duration.FromNanoseconds(int(lease.seconds * 1e9))
    if lease.begin is not None:
        message.effective_begin_time.FromNanoseconds(int(lease.begin * 1e9))
        end = time.time() if lease.end is None else lease.end
        message.effective_duration.FromNanoseconds(int((end - lease.begin) * 1e9))
    if lease.end is not None:
        message.effective_end_time.FromNanoseconds(int(lease.end * 1e9))
    return message


def _handlers(service: Any, servicer: object) -> Any:
    """Those methods that the servicer has; the rest is unimplemented."""
    found = {}
    for method in service.methods:
        if (function := getattr(servicer, method.name, None)) is None:
            continue
        request, response = (
            message_factory.GetMessageClass(one) for one in (method.input_type, method.output_type)
        )
        kind: Callable[..., Any] = getattr(
            grpc,
            f"{'stream' if method.client_streaming else 'unary'}_"
            f"{'stream' if method.server_streaming else 'unary'}_rpc_method_handler",
        )
        found[method.name] = kind(function, request.FromString, response.SerializeToString)
    return grpc.method_handlers_generic_handler(service.full_name, found)
