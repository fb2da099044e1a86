"""How many policies there may be, and how large one may be."""

from __future__ import annotations

import math

import pytest
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import Key, Lab, Policy
from jumpstarter_controller.scheduling.times import LONGEST
from jumpstarter_controller.services.policy_changes import (
    LONGEST_DESCRIPTION,
    MOST_POLICIES,
    MOST_RULES,
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
        (policy(*[pb.PolicyRule(clients=["a=b"])] * (MOST_RULES + 1)), "more than 100 rules"),
        (policy(pb.PolicyRule(clients=["a=b"] * (MOST_RULES + 1))), "more than 100 rules"),
        (policy(pb.PolicyRule(description="x" * (LONGEST_DESCRIPTION + 1))), "at most 1024 characters"),
        *(
            (policy(pb.PolicyRule(maximum_duration=seconds)), "at most 3650 days")
            for seconds in (LONGEST + 1, 0.0, -1.0, math.inf, math.nan)
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
        clients=["a=b"] * MOST_RULES,
        priority=3,
        maximum_duration=LONGEST,
        description="x" * LONGEST_DESCRIPTION,
    )
    message = policy(*[rule] * MOST_RULES)
    assert policy_message(policy_record(message)) == message


def test_a_lab_has_a_bounded_number_of_policies() -> None:
    lab = Lab()
    found = [policy_record(policy(name=f"p{number}")) for number in range(MOST_POLICIES)]
    assert set(apply_policies(lab, 0.0, found)) == {"created"}
    one_more = [policy_record(policy(name="more"))]
    with pytest.raises(RpcError, match="more than 1000 policies") as caught:
        apply_policies(lab, 0.0, one_more)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    lab.commit()
    # `Engine.change` takes the draft back.
    assert delete_policy(lab, Key("lab", "more")) == MOST_POLICIES
    assert delete_policy(lab, Key("lab", "p0")) == MOST_POLICIES - 1
    assert apply_policies(lab, 0.0, one_more) == ["created"]
    assert lab.count(Policy) == MOST_POLICIES


def test_what_becomes_of_each_policy_that_is_applied() -> None:
    lab = Lab()
    first = policy_record(policy(pb.PolicyRule(clients=["a=b"])))
    elsewhere = replace(first, namespace="other")
    assert apply_policies(lab, 5.0, [first, elsewhere]) == ["created", "created"]
    made = lab.get(Policy, first.key)
    assert made is not None
    assert (made.created, bool(made.uid)) == (5.0, True)
    for changed in (replace(first, exporters="site=a"), replace(first, rules=())):
        assert apply_policies(lab, 9.0, [changed]) == ["changed"]
        assert apply_policies(lab, 9.0, [changed]) == ["unchanged"]
        after = lab.get(Policy, first.key)
        assert after is not None
        assert (after.uid, after.created) == (made.uid, 5.0), "it is the same one"
        assert (after.exporters, after.rules) == (changed.exporters, changed.rules)
        apply_policies(lab, 9.0, [first])
    assert delete_policy(lab, first.key) == 0, "those of another namespace do not count"
    with pytest.raises(RpcError, match="there is no policy lab/p") as caught:
        delete_policy(lab, first.key)
    assert caught.value.code is StatusCode.NOT_FOUND
