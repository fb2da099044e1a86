"""The definitions of objects in `deploy/crds` on a real API server: those of Jumpstarter's own controller, and ours."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.kube.server.cluster import AnswerError, Cluster

GROUP = "jumpstarter.dev/v1alpha1"
TIME = "2026-11-28T08:00:16Z"
UUID = "01a2212b-4e9e-7442-b0de-7c40350ac903"


def path(namespace: str, kind: str, name: str = "", below: str = "") -> str:
    """Of the objects of a kind, of one of them, or of its status."""
    group = (
        "lab.jumpstarter.dev"
        if kind in {"hosts", "pairingcodes", "exporterdevices", "drains"}
        else "jumpstarter.dev"
    )
    return "/".join(filter(None, (f"/apis/{group}/v1alpha1/namespaces/{namespace}/{kind}", name, below)))


def make(
    cluster: Cluster, namespace: str, kind: str, name: str, spec: dict[str, Any], **metadata: Any
) -> Any:
    """A new object; a field that the schema does not have is refused."""
    item = {"metadata": {"name": name} | metadata, "spec": spec}
    words = {"exporteraccesspolicies": "ExporterAccessPolicy"}
    full = item | {"apiVersion": GROUP, "kind": words.get(kind, kind[:-1].capitalize())}
    return cluster.ask("POST", path(namespace, kind), full, fieldValidation="Strict")


def change(cluster: Cluster, where: str, patch: dict[str, Any]) -> Any:
    return cluster.ask("PATCH", where, patch, "application/merge-patch+json", fieldValidation="Strict")


def conditions(*kinds: str) -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            "status": "True",
            "reason": "Ready",
            "message": "An exporter has been acquired for the client",
            "observedGeneration": 1,
            "lastTransitionTime": TIME,
        }
        for kind in kinds
    ]


BY_BOARD = {"clientRef": {"name": "c1"}, "duration": "10m0s", "selector": {"matchLabels": {"board": "e1"}}}
OBJECTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("clients", {}, {}),
    (
        "clients",
        {"username": "dex:ann"},
        {
            "conditions": conditions("TokenExpiring"),
            "credential": {"name": "c1-client"},
            "endpoint": "localhost:8082",
            "tokenExpiresAt": TIME,
        },
    ),
    (
        "exporters",
        {"enabled": True},
        {
            "conditions": conditions("Online", "Registered"),
            "credential": {"name": "fresh-exporter"},
            "endpoint": "localhost:8082",
            "statusMessage": "Never seen",
        },
    ),
    (
        "exporters",
        {"enabled": False, "username": "dex:e1"},
        {
            "conditions": conditions("Online", "Registered"),
            "devices": [
                {
                    "labels": {
                        "jumpstarter.dev/client": "jumpstarter_driver_composite.client.CompositeClient"
                    },
                    "uuid": "0162b370",
                },
                {"labels": {"jumpstarter.dev/name": "power"}, "parent_uuid": "0162b370", "uuid": "a9c125cc"},
            ],
            "endpoint": "localhost:8082",
            "exporterStatus": "LeaseReady",
            "lastSeen": TIME,
            "leaseRef": {"name": UUID},
            "statusMessage": "Ready for commands",
            "tokenExpiresAt": TIME,
        },
    ),
    (
        "leases",
        {
            "clientRef": {"name": "c1"},
            "duration": "10m0s",
            "exporterRef": {"name": "e2"},
            "selector": {},
            "tags": {"team": "a"},
            "context": {"build": "7"},
            "allowDisabled": True,
            "sharedWith": ["bob"],
        },
        {
            "beginTime": TIME,
            "conditions": conditions("Ready"),
            "ended": False,
            "exporterRef": {"name": "e2"},
            "priority": 3,
        },
    ),
    ("leases", BY_BOARD, {"conditions": conditions("Pending"), "ended": False}),
    ("leases", BY_BOARD | {"beginTime": TIME, "endTime": TIME}, {"ended": False}),
    (
        "leases",
        BY_BOARD | {"release": True},
        {
            "beginTime": TIME,
            "conditions": conditions("Pending", "Ready"),
            "endTime": TIME,
            "ended": True,
            "exporterRef": {"name": "e2"},
            "spotAccess": False,
        },
    ),
    (
        "leases",
        {
            "clientRef": {"name": "c1"},
            "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
        },
        {"conditions": conditions("Unsatisfiable"), "endTime": TIME, "ended": True},
    ),
    (
        "exporteraccesspolicies",
        {
            "exporterSelector": {"matchLabels": {"board": "e1"}},
            "policies": [
                {
                    "description": "CI at night",
                    "priority": 5,
                    "from": [
                        {"clientSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}
                    ],
                    "maximumDuration": "30m0s",
                    "spotAccess": True,
                }
            ],
        },
        {},
    ),
]
"""Kind, spec and status as Jumpstarter 0.9's controller and its users write them."""


USUAL = {"leases": {"conditions": []}}
"""What a status has besides."""


@pytest.mark.parametrize(("kind", "spec", "status"), OBJECTS)
def test_objects_of_jumpstarters_own_controller_are_kept_as_they_are(
    lab_cluster: Cluster, namespace: str, kind: str, spec: dict[str, Any], status: dict[str, Any]
) -> None:
    make(lab_cluster, namespace, kind, "one", spec)
    if status:
        change(lab_cluster, path(namespace, kind, "one", "status"), {"status": status})
    found = lab_cluster.ask("GET", path(namespace, kind, "one"))
    assert found["spec"] == spec
    assert found.get("status", {}) == USUAL.get(kind, {}) | status


def test_what_is_left_out_is_as_it_always_is(lab_cluster: Cluster, namespace: str) -> None:
    assert make(lab_cluster, namespace, "exporters", "one", {})["spec"] == {"enabled": True}
    spec = {"clientRef": {"name": "c1"}, "exporterRef": {"name": "e1"}}
    assert make(lab_cluster, namespace, "leases", "one", spec)["spec"] == spec | {"selector": {}}
    assert lab_cluster.ask("GET", path(namespace, "leases", "one"))["status"] == {
        "ended": False,
        "conditions": [],
    }


def test_a_write_of_the_status_leaves_spec_and_annotations_alone(
    lab_cluster: Cluster, namespace: str
) -> None:
    """Which is why what is ours in a status is a condition."""
    made = make(lab_cluster, namespace, "leases", "one", BY_BOARD, annotations={"a": "b"})
    found = change(
        lab_cluster,
        path(namespace, "leases", "one", "status"),
        {"metadata": {"annotations": {"a": "c"}}, "spec": {"release": True}, "status": {"ended": True}},
    )
    assert (found["spec"], found["metadata"]["annotations"]) == (made["spec"], {"a": "b"})
    assert found["status"]["ended"] is True
    found = change(
        lab_cluster, path(namespace, "leases", "one"), {"spec": {"release": True}, "status": {"ended": False}}
    )
    assert (found["spec"]["release"], found["status"]["ended"]) == (True, True)


TAGGED = BY_BOARD | {"tags": {"a": "1"}, "context": {"b": "2"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"clientRef": {"name": "c1"}}, "one of selector or exporterRef.name is required"),
    (
        {"clientRef": {"name": "c1"}, "selector": {"matchLabels": {}}},
        "one of selector or exporterRef.name is required",
    ),
    (
        {"clientRef": {"name": "c1"}, "exporterRef": {"name": ""}},
        "one of selector or exporterRef.name is required",
    ),
    ({"selector": {"matchLabels": {"a": "b"}}}, "spec.clientRef: Required value"),
    (BY_BOARD | {"tags": {f"t{number}": "" for number in range(11)}}, "must have at most 10 items"),
    (BY_BOARD | {"context": {f"c{number}": "" for number in range(9)}}, "must have at most 8 items"),
    (BY_BOARD | {"context": {"k" * 33: ""}}, "context keys max 32 chars, values max 64 chars"),
    (BY_BOARD | {"context": {"k": "v" * 65}}, "context keys max 32 chars, values max 64 chars"),
    (BY_BOARD | {"beginTime": "soon"}, "must be of type date-time"),
    (BY_BOARD | {"duration": 600}, "must be of type string"),
    (BY_BOARD | {"selector": {"matchExpressions": [{"operator": "In"}]}}, "key: Required value"),
]


@pytest.mark.parametrize(("spec", "why"), REFUSED)
def test_a_lease_that_cannot_be_is_refused(
    lab_cluster: Cluster, namespace: str, spec: dict[str, Any], why: str
) -> None:
    with pytest.raises(AnswerError, match=f"422: .*{re.escape(why)}"):
        make(lab_cluster, namespace, "leases", "one", spec)


@pytest.mark.parametrize(
    "spec",
    [
        BY_BOARD,
        {"clientRef": {"name": "c1"}, "exporterRef": {"name": "e1"}},
        {"clientRef": {"name": "c1"}, "selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
        BY_BOARD | {"context": {"k" * 32: "v" * 64}, "tags": {f"t{number}": "" for number in range(10)}},
        BY_BOARD | {"duration": "banana"},  # which Jumpstarter's own definition takes, too
    ],
)
def test_a_lease_that_can_be_is_taken(lab_cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    make(lab_cluster, namespace, "leases", "one", spec)


@pytest.mark.parametrize(
    ("field", "value"), [("tags", {"a": "2"}), ("tags", None), ("context", {"b": "3"}), ("context", None)]
)
def test_tags_and_context_stay_as_they_are(
    lab_cluster: Cluster, namespace: str, field: str, value: dict[str, str] | None
) -> None:
    make(lab_cluster, namespace, "leases", "one", TAGGED)
    where = path(namespace, "leases", "one")
    patch = {"spec": {field: value if value is None else value | {"more": "x"}}}
    with pytest.raises(AnswerError, match=f"422: .*{field} (is|are) immutable after creation"):
        change(lab_cluster, where, patch)
    assert change(lab_cluster, where, {"spec": {"duration": "1h", "release": True}})["spec"]["release"]


def test_a_status_that_cannot_be_is_refused(lab_cluster: Cluster, namespace: str) -> None:
    make(lab_cluster, namespace, "exporters", "one", {})
    make(lab_cluster, namespace, "leases", "one", BY_BOARD)
    for kind, status, why in (
        ("exporters", {"exporterStatus": "Sleeping"}, "Unsupported value"),
        ("leases", {"beginTime": TIME, "ended": None}, "status.ended: Required value"),
        ("leases", {"ended": False, "conditions": [{"type": "Ready"}]}, "reason: Required value"),
    ):
        with pytest.raises(AnswerError, match=f"422: .*{why}"):
            change(lab_cluster, path(namespace, kind, "one", "status"), {"status": status})


def words(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.strip()]


def test_kubectl_shows_state_who_holds_it_and_since_when(lab_cluster: Cluster, namespace: str) -> None:
    make(lab_cluster, namespace, "exporters", "e1", {})
    make(lab_cluster, namespace, "leases", "one", BY_BOARD)
    change(
        lab_cluster,
        path(namespace, "exporters", "e1", "status"),
        {
            "status": {
                "exporterStatus": "LeaseReady",
                "leaseRef": {"name": "one"},
                "statusMessage": "Ready for commands",
            }
        },
    )
    change(
        lab_cluster,
        path(namespace, "leases", "one", "status"),
        {
            "status": {
                "ended": False,
                "exporterRef": {"name": "e1"},
                "beginTime": "2020-01-01T00:00:00Z",
                "conditions": conditions("Pending", "Ready"),
            }
        },
    )
    shown = lab_cluster.kubectl("get", "exporters.jumpstarter.dev,leases.jumpstarter.dev", "-n", namespace)
    exporters, exporter, leases, lease = words(shown)
    assert exporters == ["NAME", "ENABLED", "STATUS", "LEASE", "AGE"]
    assert exporter[:4] == ["exporter.jumpstarter.dev/e1", "true", "LeaseReady", "one"]
    assert leases == ["NAME", "ENDED", "CLIENT", "EXPORTER", "BEGUN", "DURATION", "REASON", "AGE"]
    assert lease[:4] == ["lease.jumpstarter.dev/one", "false", "c1", "e1"]
    assert re.fullmatch(r"\d+y(\d+d)?", lease[4])
    assert lease[5:7] == ["10m0s", "Ready"]
    wide = words(lab_cluster.kubectl("get", "jl", "-n", namespace, "-o", "wide"))
    assert wide[0][-1] == "MESSAGE"
    assert wide[1][-1] == "An exporter has been acquired for the client"


def test_kubectl_knows_short_names_and_all_of_a_lab(lab_cluster: Cluster, namespace: str) -> None:
    make(lab_cluster, namespace, "clients", "ann", {})
    for name in ("jc", "client", "clients"):
        assert (
            lab_cluster.kubectl("get", name, "-n", namespace, "-o", "name") == "client.jumpstarter.dev/ann\n"
        )
    for name in ("je", "jl", "jp", "jh", "jpc", "jd", "jdr"):
        assert lab_cluster.kubectl("get", name, "-n", namespace, "-o", "name") == ""
    assert (
        lab_cluster.kubectl("get", "jumpstarter", "-n", namespace, "-o", "name")
        == "client.jumpstarter.dev/ann\n"
    )


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        ("exporters", "spec.enabled=true"),
        ("exporters", "status.exporterStatus=Available"),
        ("exporters", "status.leaseRef.name=one"),
        ("leases", "spec.clientRef.name=c1"),
        ("leases", "status.ended=false"),
        ("leases", "status.exporterRef.name=e1"),
        ("clients", "spec.username=ann"),
    ],
)
def test_objects_are_found_by_their_fields(
    lab_cluster: Cluster, namespace: str, kind: str, selector: str
) -> None:
    make(lab_cluster, namespace, "exporters", "match", {})
    make(lab_cluster, namespace, "exporters", "other", {"enabled": False})
    make(lab_cluster, namespace, "leases", "match", BY_BOARD)
    make(lab_cluster, namespace, "leases", "other", BY_BOARD | {"clientRef": {"name": "c2"}})
    make(lab_cluster, namespace, "clients", "match", {"username": "ann"})
    make(lab_cluster, namespace, "clients", "other", {})
    for name, of in (("match", "one"), ("other", "two")):
        is_match = name == "match"
        exporter = {"exporterStatus": "Available" if is_match else "Offline", "leaseRef": {"name": of}}
        lease = {"ended": not is_match, "exporterRef": {"name": "e1" if is_match else "e2"}}
        for which, status in (("exporters", exporter), ("leases", lease)):
            change(lab_cluster, path(namespace, which, name, "status"), {"status": status})
    found = lab_cluster.ask("GET", path(namespace, kind), fieldSelector=selector)
    assert [one["metadata"]["name"] for one in found["items"]] == ["match"]
