"""Converts records to protobuf messages, and parses resource names."""

from __future__ import annotations

import math

from google.protobuf import duration_pb2, timestamp_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporters_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2, kubernetes_pb2

from jumpstarter_controller.lab import ConditionType, Exporter, Key, Lease, LeaseCondition
from jumpstarter_controller.scheduling import QueuePosition
from jumpstarter_controller.selectors import Operator, Requirement, Selector, SelectorError, parse

__all__ = [
    "code_of",
    "conditions_of",
    "duration_of",
    "exporter_message",
    "kind_of",
    "lease_message",
    "lease_news",
    "lease_v1",
    "name_of",
    "namespace_of",
    "position_sentence",
    "seconds_of",
    "selector_of",
    "time_of",
    "timestamp",
]

MAX_TIMESTAMP_SECONDS = 253402300799.0
"""The end of the year 9999, the largest Timestamp."""


def kind_of(text: str) -> Kind:
    """Parse an object kind. RpcError: INVALID_ARGUMENT, there is no such kind."""
    try:
        return Kind(text)
    except ValueError:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, f"{text[:40]!r} is not Client, Exporter or Host"
        ) from None


def name_of(resource: str, collection: str) -> Key:
    """`namespaces/NS/COLLECTION/NAME` taken apart.

    Raises:
        RpcError: INVALID_ARGUMENT, it is written otherwise.
    """
    parts = resource.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != collection or not parts[1] or not parts[3]:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"'{shown(resource)}' is not a resource name; write it as namespaces/NAMESPACE/{collection}/NAME",
        )
    return Key(parts[1], parts[3])


def namespace_of(resource: str) -> str:
    """The namespace in `namespaces/NS`. RpcError: INVALID_ARGUMENT, it is invalid."""
    parts = resource.split("/")
    if len(parts) != 2 or parts[0] != "namespaces" or not parts[1]:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"'{shown(resource)}' is not a parent; write it as namespaces/NAMESPACE",
        )
    return parts[1]


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """A time of a record."""
    fraction, whole = math.modf(min(max(seconds, 0.0), MAX_TIMESTAMP_SECONDS))
    return timestamp_pb2.Timestamp(seconds=int(whole), nanos=int(fraction * 1e9))


def time_of(message: timestamp_pb2.Timestamp) -> float:
    """Seconds since the epoch."""
    return float(message.seconds) + message.nanos / 1e9


def duration_of(seconds: float) -> duration_pb2.Duration:
    """A duration of a record."""
    fraction, whole = math.modf(seconds)
    return duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9))


def seconds_of(message: duration_pb2.Duration) -> float:
    """A duration in seconds."""
    return float(message.seconds) + message.nanos / 1e9


def conditions_of(lease: Lease, position: QueuePosition | None) -> list[kubernetes_pb2.Condition]:
    """The conditions in the order in which they were first set. That of a waiting lease includes its queue position."""
    return [_condition(one, position) for one in lease.conditions]


def _condition(condition: LeaseCondition, position: QueuePosition | None) -> kubernetes_pb2.Condition:
    message = condition.message
    if condition.type is ConditionType.PENDING and position is not None:
        message = f"{message}; {position_sentence(position)}"
    return kubernetes_pb2.Condition(
        type=condition.type.value,
        status="True" if condition.holds else "False",
        lastTransitionTime=kubernetes_pb2.Time(seconds=int(condition.since)),
        reason=condition.reason,
        message=message,
    )


def position_sentence(position: QueuePosition) -> str:
    """A sentence about the queue position and the estimated wait."""
    text = "next in the queue" if position.number == 1 else f"number {position.number} in the queue"
    if position.seconds is None:
        return text
    minutes = math.ceil(position.seconds / 60)
    return f"{text}, at the latest in {minutes} min" if minutes > 1 else f"{text}, at the latest in a minute"


def lease_message(lease: Lease, position: QueuePosition | None, now: float) -> client_pb2.Lease:
    """A lease for the client service."""
    message = client_pb2.Lease(
        name=f"namespaces/{lease.namespace}/leases/{lease.name}",
        selector=lease.selector or "<none>",
        duration=duration_of(lease.duration),
        client=f"namespaces/{lease.namespace}/clients/{lease.client}",
        conditions=conditions_of(lease, position),
        tags=lease.tags,
        context=lease.context,
        allow_disabled=lease.allow_disabled,
    )
    if lease.accepted:
        message.exporter = f"namespaces/{lease.namespace}/exporters/{lease.exporter}"
    if lease.exporter_name:
        message.exporter_name = lease.exporter_name
    if lease.begin_time is not None:
        message.begin_time.CopyFrom(timestamp(lease.begin_time))
    if lease.end_time is not None:
        message.end_time.CopyFrom(timestamp(lease.end_time))
    if lease.begun is not None:
        message.effective_begin_time.CopyFrom(timestamp(lease.begun))
        until = now if lease.ended is None else lease.ended
        message.effective_duration.CopyFrom(duration_of(max(0.0, until - lease.begun)))
    if lease.ended is not None:
        message.effective_end_time.CopyFrom(timestamp(lease.ended))
    return message


def code_of(lease: Lease) -> str:
    """The reason code of a lease; empty if the reasons of its conditions are precise enough."""
    waits = not lease.exporter and lease.ended is None
    # Why it waited stays among its conditions when it waits no more.
    codes = (one.code for one in lease.conditions if waits or one.type is not ConditionType.PENDING)
    return next(filter(None, codes), "")


def lease_news(lease: Lease, position: QueuePosition | None, now: float) -> exporters_pb2.LeaseNews:
    """A lease as a message of Watch."""
    news = exporters_pb2.LeaseNews(lease=lease_message(lease, position, now), reason=code_of(lease))
    if position is not None:
        news.place = position.number
        if position.seconds is not None:
            news.at_the_latest.CopyFrom(duration_of(max(0.0, position.seconds)))
    return news


def exporter_message(exporter: Exporter, *, is_online: bool) -> client_pb2.Exporter:
    """An exporter for the client service."""
    return client_pb2.Exporter(
        name=f"namespaces/{exporter.namespace}/exporters/{exporter.name}",
        labels=exporter.labels,
        online=is_online,
        status=common_pb2.ExporterStatus.Name(exporter.status.value),
        status_message=exporter.status_message,
        enabled=exporter.enabled,
    )


def lease_v1(
    lease: Lease, exporter: Exporter | None, position: QueuePosition | None
) -> jumpstarter_pb2.GetLeaseResponse:
    """A lease for the older client calls of the controller service."""
    message = jumpstarter_pb2.GetLeaseResponse(
        duration=duration_of(lease.duration), conditions=conditions_of(lease, position)
    )
    selector = parse(lease.selector)
    message.selector.match_labels.update(selector.equalities)
    for one in selector.requirements:
        if one.operator is not Operator.EQUALS:
            message.selector.match_expressions.add(
                key=one.key, operator=one.operator.value, values=one.values
            )
    if lease.begun is not None:
        message.begin_time.CopyFrom(timestamp(lease.begun))
    if lease.ended is not None:
        message.end_time.CopyFrom(timestamp(lease.ended))
    if exporter is not None:
        message.exporter_uuid = exporter.uid
    return message


def selector_of(message: kubernetes_pb2.LabelSelector) -> Selector:
    """A structured selector.

    Raises:
        SelectorError: an operator that is none, or values that do not fit it.
    """
    found = [Requirement(key, Operator.EQUALS, (value,)) for key, value in message.match_labels.items()]
    for one in message.match_expressions:
        if one.operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            raise SelectorError(
                f"operator {shown(one.operator)} of {shown(one.key)} is not In, NotIn, Exists or DoesNotExist"
            )
        operator = Operator(one.operator)
        if bool(one.values) != (operator in {Operator.IN, Operator.NOT_IN}):
            raise SelectorError(f"{shown(one.key)} {one.operator} has the wrong number of values")
        found.append(Requirement(one.key, operator, tuple(sorted(set(one.values)))))
    return Selector.of(found)
