"""The changes that services make to a lab: functions over a draft, for `Reconciler.change`."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.identifiers import uuid7
from jumpstarter_proto.remote import ReasonCode, refused
from jumpstarter_proto.report_labels import OWN_PREFIX
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import jumpstarter_pb2
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    Draft,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Key,
    Lease,
    UnavailableReason,
)
from jumpstarter_controller.scheduling import (
    READY_STATUSES,
    LeaseRefusal,
    TimesError,
    accept,
    check_times,
    choices,
    longest,
    withdraw,
)
from jumpstarter_controller.selectors import SelectorError, check_labels, parse
from jumpstarter_controller.selectors.labels import LabelError, check_name
from jumpstarter_controller.services.device_reports import devices_of, hooks_of
from jumpstarter_controller.services.messages import name_of, seconds_of, time_of

__all__ = [
    "OWN_PREFIX",
    "accept_lease",
    "create_lease",
    "decline_lease",
    "not_found",
    "register",
    "release",
    "report",
    "unregister",
    "update_lease",
]

MAX_TAGS = 10
MAX_LEASES_PER_CLIENT = 256
"""The default limit of open leases of a client."""
MAX_CONTEXT = 8
MAX_DEVICES = 4096
MAX_REASONS = 16
MAX_CODE_LENGTH = 64
MAX_MESSAGE_LENGTH = 1024


_LISTS = {"lease": "lease list", "exporter": "exporters"}
"""The command that lists all objects of a kind."""


def not_found(kind: str, name: str) -> RpcError:
    """The error for a missing object, in the words of a Kubernetes API, with the next step."""
    return refused(
        StatusCode.UNKNOWN,
        f'{kind}s.jumpstarter.dev "{shown(name)}" not found; see which there are: jumpstarter {_LISTS.get(kind, kind)}',
        ReasonCode.NOT_FOUND,
    )


def _unknown(error: ValueError) -> RpcError:
    return refused(StatusCode.UNKNOWN, str(error), ReasonCode.BAD_WISH)


def create_lease(
    draft: Draft,
    now: float,
    client: Client,
    name: str,
    asked: client_pb2.Lease,
    *,
    most_open: int = MAX_LEASES_PER_CLIENT,
    waited: bool = False,
    waits_for_board: bool = False,
) -> Lease:
    """Add a lease of a client. The scheduler handles it afterwards.

    With `waited`, it ends if the command that waits for it stops polling or watching before it has a board. With
    `waits_for_board`, it waits if no existing board matches.

    Raises:
        RpcError: INVALID_ARGUMENT, something is missing or a tag is invalid; UNKNOWN, another value is invalid;
            RESOURCE_EXHAUSTED, the client has too many leases.
    """
    if not asked.selector and not asked.exporter_name:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            "one of selector or exporter_name is required; for example board=rpi4",
        )
    tags = _tags(asked.tags)
    context = _context(asked.context)
    try:
        selector = parse(asked.selector)
        parse(str(selector))  # the canonical text is stored, and may be longer than the request's
    except SelectorError as error:
        raise _unknown(error) from None
    begin, end, duration = _times(asked, now)
    if begin is not None and begin + duration <= now:
        raise RpcError(StatusCode.UNKNOWN, "the lease would have ended already; choose a later end")
    name = name or uuid7(now)
    _check_name("a lease", name)
    if asked.exporter_name:
        _check_name("an exporter", asked.exporter_name)
    _check_number(draft, client, most_open, "release some: jumpstarter lease list")
    key = Key(client.namespace, name)
    if draft.get(Lease, key) is not None:
        raise RpcError(
            StatusCode.UNKNOWN, f'leases.jumpstarter.dev "{name}" already exists; choose another name'
        )
    lease = Lease(
        namespace=client.namespace,
        name=name,
        uid=str(uuid.uuid4()),
        created=now,
        sequence=draft.last_sequence + 1,
        client=client.name,
        selector=str(selector),
        exporter_name=asked.exporter_name,
        duration=duration,
        begin_time=begin,
        end_time=end,
        tags=tags,
        context=context,
        allow_disabled=asked.allow_disabled,
        waited=waited,
        waits_for_board=waits_for_board,
    )
    draft.put(lease)
    return lease


def _check_number(draft: Draft, client: Client, most_open: int, way_out: str) -> None:
    namespace, name = client.key
    if sum(one.client == name and one.namespace == namespace for one in draft.open_leases()) >= most_open:
        raise RpcError(
            StatusCode.RESOURCE_EXHAUSTED,
            f"client {client.name} has {most_open} leases that have not ended, which is the limit; {way_out}",
        )


def _check_name(what: str, name: str) -> None:
    try:
        check_name(name)
    except LabelError:
        raise RpcError(
            StatusCode.UNKNOWN,
            f"'{shown(name, 80)}' is not a valid name for {what}; use at most 63 letters, digits and '-'",
        ) from None


def _times(asked: client_pb2.Lease, now: float) -> tuple[float | None, float | None, float]:
    try:
        return check_times(
            time_of(asked.begin_time) if asked.HasField("begin_time") else None,
            time_of(asked.end_time) if asked.HasField("end_time") else None,
            seconds_of(asked.duration) if asked.HasField("duration") else None,
            now,
        )
    except TimesError as error:
        raise _unknown(error) from None


def _context(context: Mapping[str, str]) -> dict[str, str]:
    """Check the context, which the exporter's hooks get unchanged: only short printable text is accepted."""
    found = dict(context)
    if len(found) > MAX_CONTEXT or any(len(k) > 32 or len(v) > 64 for k, v in found.items()):
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"a context has at most {MAX_CONTEXT} entries, keys of 32 and values of 64 characters",
        )
    for key, value in found.items():
        if not (key + value).isprintable():
            raise RpcError(
                StatusCode.INVALID_ARGUMENT,
                f"context {shown(key)} has characters that cannot be printed; use plain text",
            )
    return found


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    found = dict(tags)
    if len(found) > MAX_TAGS:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, f"a lease has at most {MAX_TAGS} tags, this one {len(found)}"
        )
    try:
        check_labels(found)
    except LabelError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"tags: {error}") from None
    for key in found:
        if "/" in key or key.startswith("jumpstarter"):
            raise RpcError(
                StatusCode.INVALID_ARGUMENT, f"tag {key!r}: a tag's key is a plain name of your own"
            )
    return found


def owned(draft: Draft, client: Client, key: Key, call: str) -> Lease:
    """The client's lease. RpcError: UNKNOWN, it does not exist or belongs to another client."""
    lease = draft.get(Lease, key)
    if lease is None:
        raise not_found("lease", key.name)
    if lease.client != client.name:
        raise refused(
            StatusCode.UNKNOWN,
            f"{call} permission denied: the lease is {lease.client}'s; ask for one of your own",
            ReasonCode.NOT_YOURS,
        )
    return lease


def update_lease(
    draft: Draft,
    now: float,
    client: Client,
    key: Key,
    asked: client_pb2.Lease,
    *,
    most_open: int = MAX_LEASES_PER_CLIENT,
) -> Lease:
    """Change the duration, begin, end or owner, as far as `asked` has them. RpcError: the change is not possible."""
    lease = owned(draft, client, key, "UpdateLease")
    if lease.ended is not None:
        raise RpcError(
            StatusCode.UNKNOWN, f"cannot update lease {lease.name}: it has already ended; create a new one"
        )
    timed = any(asked.HasField(field) for field in ("duration", "begin_time", "end_time"))
    if timed:
        lease = _retimed(lease, now, asked)
        _check_allowed(draft, lease, client)
    if asked.client:
        lease = replace(lease, client=_new_owner(draft, lease, asked.client, most_open))
    if lease.accepted:
        lease = replace(lease, waited=False)  # its user evidently knows of it
    draft.put(lease)
    return lease


def _check_allowed(draft: Draft, lease: Lease, client: Client) -> None:
    """Check that policies allow the lease's new duration.

    A waiting lease may match several exporters. The change is rejected if policies allow none of them for so long.
    """
    if not lease.exporter:
        refused = choices(draft, lease)
        if isinstance(refused, LeaseRefusal) and not isinstance(
            choices(draft, replace(lease, duration=0.0)), LeaseRefusal
        ):
            raise RpcError(StatusCode.PERMISSION_DENIED, refused.message)
        return
    exporter = draft.get(Exporter, Key(lease.namespace, lease.exporter))
    if exporter is None:
        return  # the exporter was deleted: the lease ends in this turn
    begun = lease.begun if lease.begun is not None else lease.expiry
    seconds = max(lease.duration, (lease.expiry or 0.0) - (begun or 0.0))
    most = longest(draft, client, exporter)
    if seconds > most:
        allowed = f"for {most:g} s at most, not {seconds:g} s" if most else "at all"
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"no access policy lets client {client.name} have {exporter.name} {allowed}; "
            "ask the lab's administrator for more",
        )


def _retimed(lease: Lease, now: float, asked: client_pb2.Lease) -> Lease:
    begin, end, duration = _times(asked, now)
    if lease.begun is not None:
        if asked.HasField("begin_time") and begin != lease.begin_time:
            raise RpcError(
                StatusCode.UNKNOWN,
                "cannot update BeginTime: lease has already started; change its duration or end",
            )
        begin = lease.begin_time
        if end is not None:
            duration = end - (lease.begun if begin is None else begin)
    elif begin is None:
        begin = lease.begin_time
    changed = replace(lease, duration=duration, begin_time=begin, end_time=end)
    if begin is not None and begin > now:
        changed = withdraw(changed)
    if changed.expiry is not None and changed.expiry <= now:
        raise RpcError(
            StatusCode.UNKNOWN,
            f"the lease would have ended {math.ceil(now - changed.expiry)} s ago; "
            "the duration starts at the begin of the lease, so ask for a longer one or release it",
        )
    return changed


def _new_owner(draft: Draft, lease: Lease, resource: str, most_open: int) -> str:
    target = name_of(resource, "clients")
    if target.namespace != lease.namespace:
        raise RpcError(
            StatusCode.UNKNOWN,
            "cannot transfer lease to client in different namespace; choose one of "
            f"namespaces/{lease.namespace}",
        )
    if target.name == lease.client:
        return lease.client
    if lease.begun is None:
        raise RpcError(
            StatusCode.UNKNOWN,
            "cannot transfer lease: lease has not started yet; wait until it has, or let the other ask for one",
        )
    client = draft.get(Client, target)
    if client is None:
        raise refused(
            StatusCode.UNKNOWN,
            f"target client not found: {shown(target.name)}; check its name",
            ReasonCode.NOT_FOUND,
        )
    if not client.enabled:
        raise RpcError(
            StatusCode.UNKNOWN,
            f"target client {client.name} is disabled; choose another, or ask the lab's administrator to enable it",
        )
    _check_number(draft, client, most_open, "choose another, or ask them to release some")
    _check_allowed(draft, lease, client)
    return client.name


def release(draft: Draft, lease: Lease, reason: str = "") -> None:
    """Request the end of a lease; the scheduler ends it in the same turn. A lease that has ended is not changed."""
    if lease.ended is None and not lease.release:
        draft.put(replace(lease, release=True, release_reason=shown(reason, MAX_MESSAGE_LENGTH)))


def register(
    draft: Draft,
    exporter: Key,
    labels: Mapping[str, str],
    reports: Sequence[jumpstarter_pb2.DriverInstanceReport],
    *,
    answers: bool = False,
) -> Exporter:
    """Store the devices of an exporter, and its own labels. Labels that the lab has set stay.

    `answers`: whether it accepts or declines each lease.
    """
    record = draft.get(Exporter, exporter)
    if record is None:
        raise not_found("exporter", exporter.name)
    devices = len(reports)
    if devices > MAX_DEVICES:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"an exporter has at most {MAX_DEVICES} devices")
    # The labels of a host's board are set by BoardService, which checks which ones the host may set.
    merged = record.labels if record.host else _with_own_labels(record, labels)
    changed = replace(record, labels=merged, devices=devices, answers=answers, gone_since=None)
    if changed != record:
        record = changed
        draft.put(record)
    found, omitted = devices_of(reports)
    hooks = hooks_of(reports)
    known = draft.get(ExporterDevices, exporter)
    if known is None or (known.devices, known.omitted, known.hooks) != (found, omitted, hooks):
        draft.put(
            ExporterDevices(
                namespace=exporter.namespace,
                name=exporter.name,
                devices=found,
                omitted=omitted,
                hooks=hooks,
            )
        )
    return record


def _with_own_labels(record: Exporter, labels: Mapping[str, str]) -> dict[str, str]:
    # Labels with this prefix are set by the exporter itself, all others by the lab.
    own = {key: value for key, value in labels.items() if key.startswith(OWN_PREFIX)}
    try:
        check_labels(own)
    except LabelError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
    return {key: value for key, value in record.labels.items() if not key.startswith(OWN_PREFIX)} | own


def unregister(draft: Draft, exporter: Key, reason: str) -> None:
    """Mark an exporter offline, without devices."""
    record = draft.get(Exporter, exporter)
    if record is not None and record.gone_since is None:  # a retired board keeps that status
        text = shown(reason, MAX_MESSAGE_LENGTH) or "Exporter unregistered"
        draft.put(replace(record, devices=0, status=ExporterStatus.OFFLINE, status_message=text, reasons=()))


def report(
    draft: Draft,
    exporter: Key,
    status: ExporterStatus,
    message: str,
    reasons: Iterable[UnavailableReason] = (),
) -> None:
    """Store the status of an exporter. When it is available, its reasons are cleared and it can get leases again."""
    record = draft.get(Exporter, exporter)
    if record is None:
        raise not_found("exporter", exporter.name)
    changed = replace(
        record,
        status=status,
        status_message=shown(message, MAX_MESSAGE_LENGTH),
        reasons=() if status in READY_STATUSES else reasons_of(reasons),
    )
    if changed != record:
        draft.put(changed)


def reasons_of(reasons: Iterable[UnavailableReason]) -> tuple[UnavailableReason, ...]:
    """The reasons that an exporter sent, limited in number and length."""
    return tuple(
        UnavailableReason(shown(one.code, MAX_CODE_LENGTH), shown(one.sentence, MAX_MESSAGE_LENGTH))
        for one in islice(reasons, MAX_REASONS)
    )


def accept_lease(draft: Draft, now: float, exporter: Key, name: str) -> None:
    """The exporter accepts the lease that it was offered: the lease begins. Idempotent."""
    draft.put(accept(_offered(draft, exporter, name), now))


def decline_lease(
    draft: Draft, exporter: Key, name: str, reasons: Sequence[UnavailableReason], *, is_news: bool
) -> None:
    """The exporter declines the lease that it was offered, and is not available for other leases either.

    Without `is_news` the exporter has reported a newer status since: then only the offer is withdrawn.

    Raises:
        RpcError: FAILED_PRECONDITION, the lease was not offered or was accepted; INVALID_ARGUMENT, no reason is given.
    """
    lease = _offered(draft, exporter, name)
    if lease.offered is None:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION, f"lease {name} was accepted before; release it if it cannot go on"
        )
    if not reasons:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "a lease is declined with at least one reason")
    draft.put(withdraw(lease))
    if is_news:  # this status prevents another offer
        report(draft, exporter, ExporterStatus.AFTER_LEASE_HOOK, reasons[0].sentence, reasons)


def _offered(draft: Draft, exporter: Key, name: str) -> Lease:
    lease = draft.holder(exporter)
    if lease is None or lease.name != name:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            f"lease {shown(name)} is not assigned to this exporter, or no longer; follow the controller's assignment",
        )
    return lease
