"""Which exporters a lease may have at all, according to its selector or exporter name and the access policies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from jumpstarter_proto.remote import ReasonCode

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Exporter,
    Key,
    LabState,
    Lease,
    LeaseCondition,
    Policy,
    Record,
    Rule,
)
from jumpstarter_controller.selectors import Selector, SelectorError, parse

__all__ = ["Candidates", "LeaseRefusal", "choices", "longest", "matching", "priority_of"]


Kinds: TypeAlias = tuple[type[Record], ...]


@dataclass(frozen=True)
class Candidates:
    """The exporters that a lease may have."""

    levels: tuple[tuple[int, frozenset[Key]], ...]
    """Exporters by the priority that policies give this client for them; the highest priority first."""

    @property
    def priority(self) -> int:
        """The highest priority that the lease has for any exporter."""
        return self.levels[0][0]

    def has(self, exporter: Key) -> bool:
        """Whether the lease may have this one."""
        return any(exporter in exporters for _, exporters in self.levels)

    @property
    def exporters(self) -> Iterator[Key]:
        """All candidates."""
        for _, exporters in self.levels:
            yield from exporters

    def first_of(self, others: frozenset[Key]) -> int | None:
        """The highest priority for one of these exporters; None if none of them is a candidate."""
        return next((priority for priority, mine in self.levels if not mine.isdisjoint(others)), None)


@dataclass(frozen=True)
class LeaseRefusal:
    """Why a lease may have none of the existing exporters. It ends, unless it waits for new exporters."""

    type: ConditionType
    reason: str
    message: str
    is_final: bool = False
    """Whether no future exporter can change that."""
    code: str = ""
    """Reason code of the condition."""
    rests_on: Kinds = ()
    """Kinds of the records that the refusal depends on; empty: on the lease alone."""

    def condition(self, now: float) -> LeaseCondition:
        """The refusal as a condition of the lease."""
        return LeaseCondition(self.type, True, self.reason, self.message, now, self.code)

    def unsettled(self, now: float) -> LeaseCondition:
        """The condition of a lease that waits until recent policy changes are complete."""
        message = f"policies have just changed, so the decision is delayed for a moment: {self.message}"
        return LeaseCondition(ConditionType.PENDING, True, "PoliciesChanged", message, now)

    def waiting(self, now: float) -> LeaseCondition:
        """The condition of a lease that waits for a matching exporter to be registered."""
        return LeaseCondition(
            ConditionType.PENDING, True, "NoBoardYet", f"no such board yet: {self.message}", now
        )


def choices(state: LabState, lease: Lease) -> Candidates | LeaseRefusal:
    """The exporters that a lease may have, whether or not they are free or online."""
    try:
        selector = parse(lease.selector)
    except SelectorError as error:  # stored by an older version; other leases must not wait for it
        return LeaseRefusal(
            ConditionType.INVALID, "InvalidSelector", f"{error}; ask with another", is_final=True
        )
    if not selector and not lease.exporter_name:
        return LeaseRefusal(
            ConditionType.INVALID,
            "InvalidSelector",
            "it has neither a selector nor an exporter name; give one, for example board=rpi4",
            is_final=True,
        )
    client = state.get(Client, Key(lease.namespace, lease.client))
    if client is not None and not client.enabled:
        return LeaseRefusal(
            ConditionType.UNSATISFIABLE,
            "NoAccess",
            f"client {client.name} is disabled; ask the lab's administrator to enable it",
            is_final=True,
            rests_on=(Client,),
        )
    found = _named(state, lease, selector) if lease.exporter_name else _selected(state, lease, selector)
    if isinstance(found, LeaseRefusal):
        return found
    levels: defaultdict[int, set[Key]] = defaultdict(set)
    for exporter in found:
        priority = priority_of(state, client, exporter, lease.duration)
        if priority is not None:
            levels[priority].add(exporter.key)
    if not levels:
        return _no_access(lease, selector, found)
    return Candidates(
        tuple((priority, frozenset(levels[priority])) for priority in sorted(levels, reverse=True))
    )


def matching(state: LabState, namespace: str, selector: Selector) -> list[Exporter]:
    """Exporters of a namespace that a selector matches, without retired ones."""
    return [
        exporter
        for exporter in state.all(Exporter)
        if exporter.namespace == namespace
        and exporter.gone_since is None
        and selector.matches(exporter.labels)
    ]


def _named(state: LabState, lease: Lease, selector: Selector) -> list[Exporter] | LeaseRefusal:
    exporter = state.get(Exporter, Key(lease.namespace, lease.exporter_name))
    unsatisfiable = ConditionType.UNSATISFIABLE
    if exporter is None:
        return LeaseRefusal(
            unsatisfiable,
            "ExporterNotFound",
            f"there is no exporter {lease.exporter_name}; see which there are with: jumpstarter exporters",
            code=ReasonCode.NO_BOARD.value,
            rests_on=(Exporter,),
        )
    if exporter.gone_since is not None:
        return LeaseRefusal(
            unsatisfiable,
            "ExporterNotFound",
            f"exporter {exporter.name} is {exporter.status_message}; choose another: jumpstarter exporters",
            code=ReasonCode.NO_BOARD.value,
            rests_on=(Exporter,),
        )
    if not selector.matches(exporter.labels):
        return LeaseRefusal(
            unsatisfiable,
            "SelectorMismatch",
            f"exporter {exporter.name} does not match {selector}; leave the selector or the name out",
            rests_on=(Exporter,),
        )
    if not exporter.enabled and not lease.allow_disabled:
        return LeaseRefusal(
            unsatisfiable,
            "ExporterDisabled",
            f"exporter {exporter.name} is disabled; ask the lab's administrator to enable it",
            rests_on=(Exporter,),
        )
    return [exporter]


def _selected(state: LabState, lease: Lease, selector: Selector) -> list[Exporter] | LeaseRefusal:
    found = matching(state, lease.namespace, selector)
    usable = [exporter for exporter in found if exporter.enabled or lease.allow_disabled]
    if found and not usable:
        return LeaseRefusal(
            ConditionType.UNSATISFIABLE,
            "AllDisabled",
            f"every exporter that matches {selector} is disabled; ask the lab's administrator to enable one",
            rests_on=(Exporter,),
        )
    return usable


def _no_access(lease: Lease, selector: Selector, found: list[Exporter]) -> LeaseRefusal:
    if not found:
        message = f"no exporter matches {selector}; see which there are with: jumpstarter exporters"
        code = ReasonCode.NO_BOARD.value
        return LeaseRefusal(ConditionType.UNSATISFIABLE, "NoAccess", message, code=code, rests_on=(Exporter,))
    names = ", ".join(sorted(exporter.name for exporter in found)[:5])
    message = (
        f"no access policy lets client {lease.client} have {names} for {lease.duration:g} s; "
        "ask for less time, or ask the lab's administrator for access"
    )
    rests_on = (Client, Exporter, Policy)
    return LeaseRefusal(ConditionType.UNSATISFIABLE, "NoAccess", message, rests_on=rests_on)


def priority_of(state: LabState, client: Client | None, exporter: Exporter, duration: float) -> int | None:
    """The highest priority that policies give for this duration; None: no access. Without policies it is 0."""
    policies = [policy for policy in state.all(Policy) if policy.namespace == exporter.namespace]
    if not policies:
        return 0
    rules = _rules(policies, client, exporter)
    return max((one.priority for one in rules if duration <= _longest(one)), default=None)


def longest(state: LabState, client: Client | None, exporter: Exporter) -> float:
    """The longest duration, in seconds, for which policies give a client an exporter. 0: no access, inf: no limit."""
    policies = [policy for policy in state.all(Policy) if policy.namespace == exporter.namespace]
    if not policies:
        return math.inf
    return max(map(_longest, _rules(policies, client, exporter)), default=0.0)


def _longest(rule: Rule) -> float:
    return math.inf if rule.maximum_duration is None else rule.maximum_duration


def _rules(policies: list[Policy], client: Client | None, exporter: Exporter) -> Iterator[Rule]:
    """The rules that apply to this client and this exporter."""
    if client is None:
        return
    for policy in policies:
        if _matches(policy.exporters, exporter.labels):
            for rule in policy.rules:
                if any(_matches(clients, client.labels) for clients in rule.clients):
                    yield rule


def _matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether the selector matches the labels. An invalid selector, written by others, matches nothing."""
    try:
        return parse(selector).matches(labels)
    except SelectorError:
        return False
