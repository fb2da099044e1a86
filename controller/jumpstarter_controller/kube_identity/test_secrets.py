"""What becomes of Secrets, for any that may stand there."""

from __future__ import annotations

import base64
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.remote import Kind

from jumpstarter_controller.identity import Subject
from jumpstarter_controller.kube_identity.secrets import (
    SecretContent,
    SecretOwner,
    SecretStep,
    content_of,
    next_step,
    secret_name,
    why_blocked,
)
from jumpstarter_controller.kube_identity.token_status import (
    CREDENTIAL,
    EXPIRING,
    next_look,
    with_credential,
    with_trouble,
)
from jumpstarter_controller.lab import Client, Exporter

OWNER = SecretOwner("jumpstarter.dev/v1alpha1", "Client", "ann", "now")
SUBJECT = Subject(Kind.CLIENT, "lab", "ann", "uid")
FORMER = OWNER.reference | {"uid": "before"}
STRANGER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1", "controller": True}
READER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "reader", "uid": "2"}

references = st.lists(
    st.sampled_from([OWNER.reference, FORMER, STRANGER, READER]), max_size=3, unique_by=str
).filter(lambda found: sum("controller" in one for one in found) <= 1)  # an API server lets no more in
secrets = st.none() | references.map(lambda found: {"metadata": {"name": "x", "ownerReferences": found}})
contents = st.none() | st.builds(
    SecretContent,
    st.none() | st.sampled_from([SUBJECT, Subject(Kind.CLIENT, "lab", "ann", "before")]),
    st.just(200.0),
    st.integers(0, 100).map(float),
)


@given(secrets, contents, st.booleans(), st.integers(0, 100))
def test_a_secret_ends_with_a_good_token_that_its_object_controls(
    secret: dict[str, Any] | None, content: SecretContent | None, is_out: bool, now: int
) -> None:
    """Whatever stood there: in at most three steps, and nobody else's Secret is touched."""
    subject, taken = SUBJECT, []
    content = None if secret is None else content
    while True:
        step = next_step(secret, content, OWNER, subject, is_out=is_out, now=now)
        taken.append(step)
        if step in {SecretStep.KEEP, SecretStep.BLOCKED}:
            break
        if step is SecretStep.ROTATE:
            subject, is_out = Subject(Kind.CLIENT, "lab", "ann", "rotated"), False
            continue
        secret = {"metadata": {"name": "x", "ownerReferences": OWNER.references(secret)}}
        content = SecretContent(subject, 200.0, now + 1.0) if step is SecretStep.WRITE else content
    assert len(taken) <= 3
    assert secret is not None
    controllers = [one for one in secret["metadata"]["ownerReferences"] if one.get("controller")]
    if taken[-1] is SecretStep.BLOCKED:
        assert taken == [SecretStep.BLOCKED]
        assert controllers[0] == STRANGER
        assert "Deployment web" in why_blocked(secret)
    else:
        assert controllers == [OWNER.reference]
        assert content is not None
        assert (content.subject, content.renew_at > now) == (subject, True)
        assert (SecretStep.ROTATE in taken) == (subject != SUBJECT)


@given(references)
def test_owners_that_others_have_set_stay(found: list[dict[str, Any]]) -> None:
    secret = {"metadata": {"ownerReferences": found}}
    after = OWNER.references(secret)
    assert after[-1] == OWNER.reference
    assert [one for one in found if one in (STRANGER, READER)] == after[:-1]


@given(st.binary(max_size=40), st.text(max_size=20))
def test_whatever_is_in_a_secret_is_read(data: bytes, text: str) -> None:
    """Something is never nothing, which would be a rotation."""
    assert content_of({"data": {"token": "aGVsbG8="}}) == "hello"
    assert isinstance(content_of({"data": {"token": text}}), str)
    if data.strip():
        assert content_of({"data": {"token": base64.b64encode(data).decode()}})
    empties: list[dict[str, Any]] = [{}, {"data": None}, {"data": {}}, {"data": {"token": ""}}]
    for empty in empties:
        assert content_of(empty) == ""


def test_names_are_jumpstarters() -> None:
    assert secret_name(Client, "ann") == "ann-client"
    assert secret_name(Exporter, "rpi4-1") == "rpi4-1-exporter"


DAY = 86400.0


@given(st.integers(0, 400))
def test_a_status_says_how_long_a_token_is_good(left: int) -> None:
    item = {"metadata": {"generation": 1}, "status": None}
    now, expires = 1e9, 1e9 + left * DAY
    first = with_credential(item, "lab:8082", "ann-client", expires, now=now)
    assert first is not item
    assert item == {"metadata": {"generation": 1}, "status": None}
    assert first["status"]["credential"] == {"name": "ann-client"}
    (condition,) = first["status"]["conditions"]
    word = "Expired" if left == 0 else "7Days" if left <= 7 else "30Days" if left <= 30 else "Valid"
    assert word in condition["reason"]
    assert (condition["type"], condition["status"]) == (EXPIRING, str(word != "Valid"))
    look = next_look(expires, now, expires - 7 * DAY)
    assert look > now
    assert with_credential(first, "lab:8082", "ann-client", expires, now=look - 1) is first, (
        "no news until then"
    )


def test_a_status_says_why_there_is_no_token_until_there_is_one() -> None:
    item = {"metadata": {"generation": 1}, "status": {"conditions": [{"type": "Online", "status": "True"}]}}
    before = copy.deepcopy(item)
    wrong = with_trouble(item, "lab:8082", "the Secret is another's", 1e9)
    assert [one["type"] for one in wrong["status"]["conditions"]] == ["Online", CREDENTIAL]
    assert with_trouble(wrong, "lab:8082", "the Secret is another's", 2e9) is wrong
    right = with_credential(wrong, "lab:8082", "ann-client", 2e9, now=1e9)
    assert [one["type"] for one in right["status"]["conditions"]] == ["Online", EXPIRING]
    assert item == before
