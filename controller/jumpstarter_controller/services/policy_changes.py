"""Creates, changes and deletes access policies: functions over a draft, for `Reconciler.change`."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import Draft, Key, Policy, Rule
from jumpstarter_controller.scheduling.times import MAX_DURATION_SECONDS
from jumpstarter_controller.selectors import SelectorError, parse
from jumpstarter_controller.services.objects import check_names

__all__ = ["apply_policies", "delete_policy", "policy_message", "policy_record"]

MAX_POLICIES = 1000
"""The limit for the whole lab."""
MAX_RULES = 100
"""The limit of rules in a policy, and of client selectors in a rule."""
MAX_DESCRIPTION_LENGTH = 1024


def policy_record(message: pb.Policy) -> Policy:
    """A policy from its message. RpcError: INVALID_ARGUMENT, it is invalid."""
    key = Key(message.namespace, message.name)
    check_names(key, {})
    if len(message.rules) > MAX_RULES or any(len(rule.clients) > MAX_RULES for rule in message.rules):
        raise _invalid(key, f"it has more than {MAX_RULES} rules, or a rule that many selectors; split it")
    try:
        rules = tuple(_rule(rule) for rule in message.rules)
        exporters = str(parse(message.exporters))
    except ValueError as error:  # SelectorError is one
        raise _invalid(key, str(error)) from None
    return Policy(namespace=key.namespace, name=key.name, exporters=exporters, rules=rules)


def _rule(message: pb.PolicyRule) -> Rule:
    limit = message.maximum_duration if message.HasField("maximum_duration") else None
    if limit is not None and not (math.isfinite(limit) and 0 < limit <= MAX_DURATION_SECONDS):
        raise SelectorError(
            f"a maximum duration is more than 0 s and at most {MAX_DURATION_SECONDS / 86400:.0f} days"
        )
    if len(message.description) > MAX_DESCRIPTION_LENGTH:
        raise SelectorError(f"a description has at most {MAX_DESCRIPTION_LENGTH} characters")
    return Rule(
        clients=tuple(str(parse(one)) for one in message.clients),
        priority=message.priority,
        maximum_duration=limit,
        description=message.description,
    )


def _invalid(key: Key, sentence: str) -> RpcError:
    return RpcError(StatusCode.INVALID_ARGUMENT, f"policy {key}: {sentence}")


def policy_message(record: Policy) -> pb.Policy:
    """A policy as a message."""
    message = pb.Policy(namespace=record.namespace, name=record.name, exporters=record.exporters)
    for rule in record.rules:
        added = message.rules.add(clients=rule.clients, priority=rule.priority, description=rule.description)
        if rule.maximum_duration is not None:
            added.maximum_duration = rule.maximum_duration
    return message


def apply_policies(draft: Draft, now: float, policies: Sequence[Policy]) -> list[str]:
    """Make them so; what came of each: created, changed or unchanged.

    Raises:
        RpcError: RESOURCE_EXHAUSTED, there would be too many.
    """
    outcomes = []
    for policy in policies:
        before = draft.get(Policy, policy.key)
        if before is None:
            draft.put(replace(policy, uid=str(uuid.uuid4()), created=now))
            outcomes.append("created")
        elif (before.exporters, before.rules) != (policy.exporters, policy.rules):
            draft.put(replace(before, exporters=policy.exporters, rules=policy.rules))
            outcomes.append("changed")
        else:
            outcomes.append("unchanged")
    if draft.count(Policy) > MAX_POLICIES:
        raise RpcError(
            StatusCode.RESOURCE_EXHAUSTED,
            f"there would be more than {MAX_POLICIES} policies; delete some, or put rules together",
        )
    return outcomes


def delete_policy(draft: Draft, key: Key) -> int:
    """Delete a policy. Returns the number of policies left in its namespace. RpcError: NOT_FOUND, there is none."""
    record = draft.get(Policy, key)
    if record is None:
        raise RpcError(
            StatusCode.NOT_FOUND,
            f"there is no policy {key}; see which there are: jumpstarter-controller admin policy list",
        )
    draft.remove(record)
    return sum(one.namespace == key.namespace for one in draft.all(Policy))
