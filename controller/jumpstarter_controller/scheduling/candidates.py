"""Which exporters a lease could ever have: by its selector, by name, and by the policies of its namespace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jumpstarter_controller.lab import Client, Condition, ConditionType, Exporter, Key, Lease, Policy, View
from jumpstarter_controller.selectors import Selector, parse

__all__ = ["Candidates", "Refusal", "choices", "matching"]


@dataclass(frozen=True)
class Candidates:
    """What a lease may choose from, the best first."""

    exporters: tuple[tuple[Key, int], ...]
    """Each with the priority that the policies give to this client there."""

    @property
    def priority(self) -> int:
        """The best that the lease has anywhere: its rank in the queue."""
        return max(priority for _, priority in self.exporters)


@dataclass(frozen=True)
class Refusal:
    """Why a lease can never have any; it ends at once."""

    type: ConditionType
    reason: str
    message: str

    def condition(self, now: float) -> Condition:
        """As a condition of the lease."""
        return Condition(self.type, True, self.reason, self.message, now)


def choices(lab: View, lease: Lease) -> Candidates | Refusal:
    """The exporters that a lease may have, whether they are free, online or not."""
    selector = parse(lease.selector)
    if not selector and not lease.exporter_name:
        return Refusal(
            ConditionType.INVALID,
            "InvalidSelector",
            "it names neither a selector nor an exporter; ask for one, for example board=rpi4",
        )
    found = _named(lab, lease, selector) if lease.exporter_name else _selected(lab, lease, selector)
    if isinstance(found, Refusal):
        return found
    approved = [
        (exporter.key, priority)
        for exporter in found
        if (priority := _priority(lab, lease, exporter)) is not None
    ]
    if not approved:
        return _no_access(lease, selector, found)
    approved.sort(key=lambda one: (-one[1], one[0]))
    return Candidates(tuple(approved))


def matching(lab: View, namespace: str, selector: Selector) -> list[Exporter]:
    """Exporters of a namespace that a selector matches."""
    return [
        exporter
        for exporter in lab.all(Exporter)
        if exporter.namespace == namespace and selector.matches(exporter.labels)
    ]


def _named(lab: View, lease: Lease, selector: Selector) -> list[Exporter] | Refusal:
    exporter = lab.get(Exporter, Key(lease.namespace, lease.exporter_name))
    unsatisfiable = ConditionType.UNSATISFIABLE
    if exporter is None:
        return Refusal(
            unsatisfiable,
            "ExporterNotFound",
            f"there is no exporter {lease.exporter_name}; see which there are with: jumpstarter exporters",
        )
    if not selector.matches(exporter.labels):
        return Refusal(
            unsatisfiable,
            "SelectorMismatch",
            f"exporter {exporter.name} does not match {selector}; leave the selector or the name out",
        )
    if not exporter.enabled and not lease.allow_disabled:
        return Refusal(
            unsatisfiable,
            "ExporterDisabled",
            f"exporter {exporter.name} is disabled; ask who runs the lab to enable it",
        )
    return [exporter]


def _selected(lab: View, lease: Lease, selector: Selector) -> list[Exporter] | Refusal:
    found = matching(lab, lease.namespace, selector)
    usable = [exporter for exporter in found if exporter.enabled or lease.allow_disabled]
    if found and not usable:
        return Refusal(
            ConditionType.UNSATISFIABLE,
            "AllDisabled",
            f"every exporter that matches {selector} is disabled; ask who runs the lab to enable one",
        )
    return usable


def _no_access(lease: Lease, selector: Selector, found: list[Exporter]) -> Refusal:
    if not found:
        message = f"no exporter matches {selector}; see which there are with: jumpstarter exporters"
    else:
        names = ", ".join(sorted(exporter.name for exporter in found)[:5])
        message = (
            f"no access policy lets client {lease.client} have {names} for {lease.duration:g} s; "
            "ask for less time, or who runs the lab for access"
        )
    return Refusal(ConditionType.UNSATISFIABLE, "NoAccess", message)


def _priority(lab: View, lease: Lease, exporter: Exporter) -> int | None:
    """The best priority that policies approve; None if none does. Without policies everybody has 0."""
    policies = [policy for policy in lab.all(Policy) if policy.namespace == lease.namespace]
    if not policies:
        return 0
    client = lab.get(Client, Key(lease.namespace, lease.client))
    if client is None:
        return None
    return max(_approvals(policies, client, exporter, lease.duration), default=None)


def _approvals(policies: list[Policy], client: Client, exporter: Exporter, duration: float) -> Iterator[int]:
    for policy in policies:
        if not parse(policy.exporters).matches(exporter.labels):
            continue
        for rule in policy.rules:
            if rule.maximum_duration is not None and duration > rule.maximum_duration:
                continue
            if any(parse(clients).matches(client.labels) for clients in rule.clients):
                yield rule.priority
