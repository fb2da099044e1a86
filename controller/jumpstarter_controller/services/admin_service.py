"""Administration: clients and exporters, and their tokens. Whoever reaches its socket may do it all."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from jumpstarter_proto.lab.v1 import lab_grpc
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.engine import Engine
from jumpstarter_controller.identity import Subject, TokenIssuer
from jumpstarter_controller.lab import Client, Exporter, Key, Lab
from jumpstarter_controller.selectors import check_labels
from jumpstarter_controller.selectors.labels import LabelError

__all__ = ["AdminService"]

_log = logging.getLogger(__name__)
_TYPES: dict[Kind, type[Client | Exporter]] = {Kind.CLIENT: Client, Kind.EXPORTER: Exporter}


class AdminService(lab_grpc.AdminServiceServicer):
    """jumpstarter_sbc.lab.v1.AdminService."""

    def __init__(self, engine: Engine, issuer: TokenIssuer, *, endpoint: str, ca: str) -> None:
        self._engine = engine
        self._issuer = issuer
        self._endpoint = endpoint
        self._ca = ca

    async def Create(
        self, request: pb.CreateRequest, call: ServerCall[pb.CreateRequest, pb.Credential]
    ) -> pb.Credential:
        kind = _kind(request.kind)
        labels = dict(request.labels)
        try:
            check_labels({request.name: "", request.namespace: "", **labels})
        except LabelError as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
        key = Key(request.namespace, request.name)

        def apply(lab: Lab, now: float) -> Client | Exporter:
            if lab.get(_TYPES[kind], key) is not None:
                raise RpcError(
                    StatusCode.ALREADY_EXISTS,
                    f"there is a {kind.lower()} {key} already; rotate its token, or delete it first",
                )
            record = _TYPES[kind](
                namespace=key.namespace,
                name=key.name,
                uid=str(uuid.uuid4()),
                created=now,
                labels=labels,
                username=request.username,
            )
            lab.put(record)
            return record

        return self._credential(kind, await self._engine.change(apply))

    def _credential(self, kind: Kind, record: Client | Exporter) -> pb.Credential:
        token, _ = self._issuer.issue(Subject(kind, record.namespace, record.name, record.uid))
        _log.info("token issued", extra={kind.lower(): record.name})
        return pb.Credential(
            kind=kind.value,
            namespace=record.namespace,
            name=record.name,
            endpoint=self._endpoint,
            token=token,
            ca=self._ca,
        )

    async def Rotate(
        self, request: pb.ObjectRequest, call: ServerCall[pb.ObjectRequest, pb.Credential]
    ) -> pb.Credential:
        kind = _kind(request.kind)

        def apply(lab: Lab, now: float) -> Client | Exporter:
            record = replace(_found(lab, kind, request), uid=str(uuid.uuid4()))
            lab.put(record)
            return record

        return self._credential(kind, await self._engine.change(apply))

    async def Delete(
        self, request: pb.ObjectRequest, call: ServerCall[pb.ObjectRequest, pb.Object]
    ) -> pb.Object:
        kind = _kind(request.kind)

        def apply(lab: Lab, now: float) -> Client | Exporter:
            record = _found(lab, kind, request)
            lab.remove(record)
            return record

        return _object(kind, await self._engine.change(apply))

    async def SetEnabled(
        self, request: pb.SetEnabledRequest, call: ServerCall[pb.SetEnabledRequest, pb.Object]
    ) -> pb.Object:
        kind = _kind(request.kind)

        def apply(lab: Lab, now: float) -> Client | Exporter:
            record = replace(_found(lab, kind, request), enabled=request.enabled)
            lab.put(record)
            return record

        return _object(kind, await self._engine.change(apply))

    async def List(
        self, request: pb.ListRequest, call: ServerCall[pb.ListRequest, pb.ListResponse]
    ) -> pb.ListResponse:
        kind = _kind(request.kind)
        found = [
            one
            for one in self._engine.view.all(_TYPES[kind])
            if not request.namespace or one.namespace == request.namespace
        ]
        found.sort(key=lambda one: one.key)
        return pb.ListResponse(objects=[_object(kind, one) for one in found])


def _kind(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"{text!r} is neither Client nor Exporter") from None


def _found(lab: Lab, kind: Kind, request: Any) -> Client | Exporter:
    record = lab.get(_TYPES[kind], Key(request.namespace, request.name))
    if record is None:
        raise RpcError(
            StatusCode.NOT_FOUND,
            f"there is no {kind.lower()} {request.namespace}/{request.name}; "
            f"see which there are: jumpstarter-controller admin {kind.lower()} list",
        )
    return record


def _object(kind: Kind, record: Client | Exporter) -> pb.Object:
    return pb.Object(
        kind=kind.value,
        namespace=record.namespace,
        name=record.name,
        labels=record.labels,
        enabled=record.enabled,
        status=record.status.name if isinstance(record, Exporter) else "",
    )
