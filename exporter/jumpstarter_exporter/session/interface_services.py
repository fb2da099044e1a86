"""Driver interfaces as gRPC services, with the same rights, threads, errors and notes as DriverCall.

Nothing of a service is loaded before its first call. The servicer that purerpc's plugin generated names the
procedures; each of them calls the exported method of its name, on the device that the caller's metadata names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import trio
from jumpstarter_proto.call_metadata import DRIVER_UUID
from jumpstarter_proto.rpc import DynamicServicer, Route, RpcError, ServerCall, Servicer, StatusCode

from jumpstarter_exporter.decorators import ExportKind
from jumpstarter_exporter.grpc_interface import GrpcInterface
from jumpstarter_exporter.session import bytestreams, dispatch
from jumpstarter_exporter.session.call_notes import noted
from jumpstarter_exporter.session.node import SessionNode
from jumpstarter_exporter.session.selection import (
    READ_ONLY_USE,
    CallUse,
    SessionSelector,
    call_origin,
    selected_session,
)

if TYPE_CHECKING:
    from jumpstarter_proto.purerpc_adapter.servicer import CallRequest, PurerpcServicer, Signature

    from jumpstarter_exporter.session.interface_messages import Procedure
    from jumpstarter_exporter.session.session import Session

__all__ = ["DRIVER_UUID", "InterfaceServices"]

REFLECTION = "grpc.reflection."

_log = logging.getLogger(__name__)

_Call: TypeAlias = ServerCall[Any, Any]


class InterfaceServices(DynamicServicer):
    """All services of a selector's devices, and the reflection service that describes them."""

    def __init__(self, selector: SessionSelector, others: Sequence[Servicer]) -> None:
        """`others` are the services that do not depend on the devices."""
        self._selector = selector
        self._others = others

    async def find(self, call: _Call) -> Route | None:
        """Load the service, if a device of the caller's board has it."""
        session = await self._selector.enter(call, READ_ONLY_USE)
        service = call.method.service
        if service.startswith(REFLECTION):
            return await self._find_reflection(call)
        for node in session.tree.nodes:
            for interface in node.slot.spec.grpc_interfaces:
                if interface.service == service:
                    # Importing purerpc takes a tenth of a second; other calls must not wait for it.
                    routes = await trio.to_thread.run_sync(_routes, interface, self._selector)
                    return routes.get(call.method.path)
        chosen = session.tree.find((call.header(DRIVER_UUID) or "").lower())
        if chosen is not None:
            chosen.check_usable()  # for the same reason as in `_Device._node`
        return None

    async def _find_reflection(self, call: _Call) -> Route | None:
        from jumpstarter_proto.reflection.servicer import Reflection  # noqa: PLC0415 - rarely used

        def describe(interfaces: set[GrpcInterface]) -> Reflection:
            return Reflection(self._others, [one.service for one in interfaces if _is_loaded(one)])

        async def answer(call: _Call) -> None:
            session = await self._selector.enter(call, READ_ONLY_USE)
            interfaces = {one for node in session.tree.nodes for one in node.slot.spec.grpc_interfaces}
            reflection = await trio.to_thread.run_sync(describe, interfaces)
            await reflection.ServerReflectionInfo(call)

        methods = {method.path: method for method in Reflection.METHODS}
        method = methods.get(call.method.path)
        return None if method is None else (method, answer)


def _fault(interface: GrpcInterface) -> str:
    """Load the module; return what is wrong with it, which may be anybody's, or an empty string."""
    from google.protobuf import descriptor_pool  # noqa: PLC0415 - rarely used

    try:
        module = interface.load()
    except (Exception, SystemExit) as error:  # whatever importing it raises, other interfaces must work
        return f"{interface.module} cannot be imported ({str(error) or type(error).__name__})"
    try:
        descriptor_pool.Default().FindServiceByName(interface.service)
    except KeyError:
        return f"{interface.module} has no service of that name"
    if not hasattr(module, f"{interface.name}Servicer"):
        return f"{interface.module} has no class {interface.name}Servicer"
    return ""


def _is_loaded(interface: GrpcInterface) -> bool:
    """Load the messages that reflection describes. An interface that has none is logged once."""
    if fault := _fault(interface):
        _log_left_out(interface, fault)
    return not fault


@cache
def _log_left_out(interface: GrpcInterface, reason: str) -> None:
    _log.warning("Reflection leaves out the interface %s: %s", interface.service, reason)


def _routes(interface: GrpcInterface, selector: SessionSelector) -> dict[str, Route]:
    from jumpstarter_proto.purerpc_adapter.servicer import routes  # noqa: PLC0415 - loads purerpc

    if fault := _fault(interface):
        raise RpcError(
            StatusCode.INTERNAL,
            f"the interface {interface.service} cannot be used: {fault}; correct the driver's package",
        )
    generated = getattr(interface.load(), f"{interface.name}Servicer")
    return routes(_device_servicer(generated, _Device(interface, selector)))


def _device_servicer(generated: type[PurerpcServicer], device: _Device) -> PurerpcServicer:
    """An instance of the generated servicer whose procedures call devices."""
    bodies = {
        name: _body(device, name, bound.signature) for name, bound in generated().service.methods.items()
    }
    servicer: PurerpcServicer = type(f"Device{generated.__name__}", (generated,), bodies)()
    return servicer


def _body(device: _Device, name: str, signature: Signature) -> Callable[..., Any]:
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    request_type, response_type = signature.request_type, signature.response_type
    match signature.cardinality.name:
        case "UNARY_UNARY":

            async def unary(self: object, input_message: Any, request: CallRequest) -> Any:
                return await device.unary(method, input_message, request.call, request_type, response_type)

            return unary
        case "UNARY_STREAM":

            def replies(self: object, input_message: Any, request: CallRequest) -> _Replies:
                return _Replies(
                    lambda: device.replies(method, input_message, request.call, request_type, response_type)
                )

            return replies
        case "STREAM_STREAM":

            def stream(self: object, input_messages: Any, request: CallRequest) -> _Replies:
                return _Replies(lambda: device.stream(method, request.call, response_type))

            return stream
        case other:
            raise TypeError(f"{name} is {other}, which no exported method of a driver can be")


class _Replies:
    """The replies of a call whose body sends them itself; the iterator yields none."""

    def __init__(self, body: Callable[[], Awaitable[None]]) -> None:
        self._body = body

    def __aiter__(self) -> _Replies:
        return self

    async def __anext__(self) -> Any:
        await self._body()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is left open."""


class _Device:
    """Calls the device that a call of one interface is for."""

    def __init__(self, interface: GrpcInterface, selector: SessionSelector) -> None:
        self._interface = interface
        self._selector = selector

    async def unary(
        self, method: str, message: Any, call: _Call, request_type: type[Any], response_type: type[Any]
    ) -> Any:
        uuid = await self._choose(call)
        async with selected_session(self._selector, call, CallUse(uuid, method, does=True)) as session:
            node = self._node(session, uuid)
            converted = _procedure(node, method, ExportKind.CALL, request_type, response_type)
            arguments = converted.arguments(message)
            with noted(session.note, await call_origin(self._selector, session, call), node, method):
                return await dispatch.call(node, method, arguments, encode=converted.reply)

    async def replies(
        self, method: str, message: Any, call: _Call, request_type: type[Any], response_type: type[Any]
    ) -> None:
        uuid = await self._choose(call)
        async with selected_session(self._selector, call, CallUse(uuid, method, does=True)) as session:
            node = self._node(session, uuid)
            converted = _procedure(node, method, ExportKind.STREAMING, request_type, response_type)
            arguments = converted.arguments(message)
            with noted(session.note, await call_origin(self._selector, session, call), node, method):
                await dispatch.stream_results(node, method, arguments, call.send, encode=converted.reply)

    async def stream(self, method: str, call: _Call, response_type: type[Any]) -> None:
        uuid = await self._choose(call)
        async with selected_session(
            self._selector, call, CallUse(uuid, method, does=True, is_held=True)
        ) as session:
            node = self._node(session, uuid)
            _exported(node, method, ExportKind.STREAM)
            with noted(session.note, await call_origin(self._selector, session, call), node, method) as moved:
                await bytestreams.serve_data_stream(node, method, call, response_type, moved)

    async def _choose(self, call: _Call) -> str:
        """The UUID of the call's device."""
        uuid = call.header(DRIVER_UUID)
        if uuid is not None:
            return uuid
        session = await self._selector.enter(call, READ_ONLY_USE)
        found = [node for node in session.tree.nodes if self._interface in node.slot.spec.grpc_interfaces]
        if len(found) == 1:
            return str(found[0].driver.uuid)
        if not found:
            raise RpcError(
                StatusCode.NOT_FOUND, f"no device here has the interface {self._interface.service}"
            )
        choice = ", ".join(f"{node} ({node.driver.uuid})" for node in found)
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            f"several devices have the interface {self._interface.service}; "
            f"set the metadata key {DRIVER_UUID} to the UUID of one of them: {choice}",
        )

    def _node(self, session: Session, uuid: str) -> SessionNode:
        node = session.tree.find(uuid.lower())
        if node is None:
            raise RpcError(
                StatusCode.NOT_FOUND,
                f"no device here has the UUID {uuid[:100]!r}; see GetReport for the devices",
            )
        if self._interface not in node.slot.spec.grpc_interfaces:
            node.check_usable()  # the class of a device that could not be created may be unknown
            raise RpcError(
                StatusCode.NOT_FOUND, f"device {node} does not have the interface {self._interface.service}"
            )
        return node


def _procedure(
    node: SessionNode, method: str, kind: ExportKind, request_type: Any, response_type: Any
) -> Procedure:
    from jumpstarter_exporter.session.interface_messages import procedure  # noqa: PLC0415 - loads the descriptors of options

    _exported(node, method, kind)
    return procedure(node.methods[method], request_type, response_type)


def _exported(node: SessionNode, method: str, kind: ExportKind) -> None:
    exported = node.methods.get(method)
    if exported is None or exported.kind is not kind:
        node.check_usable()  # without its driver object it has no methods
        raise RpcError(StatusCode.UNIMPLEMENTED, f"device {node} has no method {method} of this kind")
