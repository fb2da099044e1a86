"""How many policies there may be, and how large one may be."""

from __future__ import annotations

import math

import pytest
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import Draft, Key, Policy
from jumpstarter_controller.scheduling.times import MAX_DURATION_SECONDS
from jumpstarter_controller.services.policy_changes import (
    MAX_DESCRIPTION_LENGTH,
    MAX_POLICIES,
    MAX_RULES,
    apply_policies,
    delete_policy,
    policy_message,
    policy_record,
)


def policy(*rules: pb.PolicyRule, name: str = "p") -> pb.Policy:
    return pb.Policy(namespace="lab", name=name, exporters="board=rpi4", rules=rules)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (policy(*[pb.PolicyRule(clients=["a=b"])] * (MAX_RULES + 1)), "more than 100 rules"),
        (policy(pb.PolicyRule(clients=["a=b"] * (MAX_RULES + 1))), "more than 100 rules"),
        (policy(pb.PolicyRule(description="x" * (MAX_DESCRIPTION_LENGTH + 1))), "at most 1024 characters"),
        *(
            (policy(pb.PolicyRule(maximum_duration=seconds)), "at most 3650 days")
            for seconds in (MAX_DURATION_SECONDS + 1, 0.0, -1.0, math.inf, math.nan)
        ),
    ],
)
def test_a_policy_that_is_too_large_is_refused(message: pb.Policy, words: str) -> None:
    with pytest.raises(RpcError, match=words) as caught:
        policy_record(message)
    assert caught.value.code is StatusCode.INVALID_ARGUMENT
    assert "policy lab/p" in caught.value.details


def test_the_largest_policy_comes_back_as_it_was() -> None:
    rule = pb.PolicyRule(
        clients=["a=b"] * MAX_RULES,
        priority=3,
        maximum_duration=MAX_DURATION_SECONDS,
        description="x" * MAX_DESCRIPTION_LENGTH,
    )
    message = policy(*[rule] * MAX_RULES)
    assert policy_message(policy_record(message)) == message


def test_a_lab_has_a_bounded_number_of_policies() -> None:
    draft = Draft()
    found = [policy_record(policy(name=f"p{number}")) for number in range(MAX_POLICIES)]
    assert set(apply_policies(draft, 0.0, found)) == {"created"}
    one_more = [policy_record(policy(name="more"))]
    with pytest.raises(RpcError, match="more than 1000 policies") as caught:
        apply_policies(draft, 0.0, one_more)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    draft.commit()
    # `Reconciler.change` takes the draft back.
    assert delete_policy(draft, Key("lab", "more")) == MAX_POLICIES
    assert delete_policy(draft, Key("lab", "p0")) == MAX_POLICIES - 1
    assert apply_policies(draft, 0.0, one_more) == ["created"]
    assert draft.count(Policy) == MAX_POLICIES


def test_what_becomes_of_each_policy_that_is_applied() -> None:
    draft = Draft()
    first = policy_record(policy(pb.PolicyRule(clients=["a=b"])))
    elsewhere = replace(first, namespace="other")
    assert apply_policies(draft, 5.0, [first, elsewhere]) == ["created", "created"]
    made = draft.get(Policy, first.key)
    assert made is not None
    assert (made.created, bool(made.uid)) == (5.0, True)
    for changed in (replace(first, exporters="site=a"), replace(first, rules=())):
        assert apply_policies(draft, 9.0, [changed]) == ["changed"]
        assert apply_policies(draft, 9.0, [changed]) == ["unchanged"]
        after = draft.get(Policy, first.key)
        assert after is not None
        assert (after.uid, after.created) == (made.uid, 5.0), "it is the same one"
        assert (after.exporters, after.rules) == (changed.exporters, changed.rules)
        apply_policies(draft, 9.0, [first])
    assert delete_policy(draft, first.key) == 0, "those of another namespace do not count"
    with pytest.raises(RpcError, match="there is no policy lab/p") as caught:
        delete_policy(draft, first.key)
    assert caught.value.code is StatusCode.NOT_FOUND
