"""How exporters stand, and what is told when that changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_client.controller.exporter_view import ExporterView, exporter_changes, exporter_views

STATUSES = [name.removeprefix("EXPORTER_STATUS_") for name in dict(common_pb2.ExporterStatus.items())]


def exporter(
    status: str = "AVAILABLE", *, online: bool = True, enabled: bool | None = True, name: str = "one"
) -> pb.Exporter:
    found = pb.Exporter(
        name=f"namespaces/lab/exporters/{name}",
        status=f"EXPORTER_STATUS_{status}",
        status_message="as it says",
        online=online,
        labels={"board": "rpi4"},
    )
    if enabled is not None:
        found.enabled = enabled
    return found


def lease(client: str = "ann", end: int = 2000000000) -> pb.Lease:
    found = pb.Lease(
        name="namespaces/lab/leases/x",
        client=f"namespaces/lab/clients/{client}",
        exporter="namespaces/lab/exporters/one",
    )
    found.end_time.FromSeconds(end)
    return found


@pytest.mark.parametrize(
    ("given", "leases", "told"),
    [
        (exporter(), [], "free"),
        (exporter("UNSPECIFIED", enabled=None), [], "free"),
        (exporter("AFTER_LEASE_HOOK"), [], "busy: as it says"),
        (exporter("LEASE_READY"), [], "busy: its last lease is ending"),
        (exporter("OFFLINE"), [], "offline: as it says"),
        (exporter(online=False), [], "offline: as it says"),
        (exporter(enabled=False), [], "disabled: it is disabled"),
        (exporter("LEASE_READY"), [lease()], "leased: ann until 2033-05-18 "),
        (exporter("LEASE_READY", enabled=False), [lease()], "leased, disabled: ann until"),
        (exporter("OFFLINE", enabled=False), [], "offline, disabled: as it says"),
    ],
)
def test_how_it_stands(given: pb.Exporter, leases: list[pb.Lease], told: str) -> None:
    (seen,) = exporter_views([given], leases)
    assert seen.status_text.startswith(told)
    assert seen.name == "one"


def test_scripts_get_everything_of_an_exporter_and_of_who_has_it() -> None:
    given = exporter("LEASE_READY", enabled=False)
    given.deprecated_labels["board"] = "use model"
    plain = {
        "namespace": "lab",
        "name": "one",
        "reason": "as it says",
        "status": "LEASE_READY",
        "online": True,
        "enabled": False,
        "labels": {"board": "rpi4"},
        "deprecated_labels": {"board": "use model"},
    }
    (held,) = exporter_views([given], [lease()])
    assert held.as_data() == {
        **plain,
        "state": "leased",
        "lease": {"name": "x", "client": "ann", "until": "2033-05-18T03:33:20+00:00"},
    }
    given.online = False
    (gone,) = exporter_views([given], [])
    assert gone.as_data() == {**plain, "online": False, "state": "offline", "lease": None}


def test_what_changed_is_told_once_and_only_that() -> None:
    free = exporter_views([exporter(), exporter(name="two")], [])
    held = exporter_views([exporter("LEASE_READY"), exporter(name="two")], [lease()])
    assert [sentence[:17] for _, sentence in exporter_changes(free, held)] == ["one is leased: an"]
    relabelled = exporter_views([exporter(), exporter(name="two")], [])
    for one, state in zip(relabelled, ("AVAILABLE", "AFTER_LEASE_HOOK"), strict=True):
        given = exporter(state, name=one.name)
        given.labels["board"], given.labels["soc"] = "rpi5", "x"
        relabelled[relabelled.index(one)] = exporter_views([given], [])[0]
    assert [sentence for _, sentence in exporter_changes(free, relabelled)] == [
        "one has the labels board=rpi5,soc=x",
        "two is busy: as it says",
    ]
    longer = exporter_views([exporter("LEASE_READY"), exporter(name="two")], [lease(end=2000009999)])
    assert [one.name for one, _ in exporter_changes(held, longer)] == ["one"], "an extension is a change"
    assert [sentence for _, sentence in exporter_changes(longer, free[:1])] == [
        "one is free",
        "two is deleted",
    ]
    assert [sentence for _, sentence in exporter_changes(free[:1], free)] == ["two is new, free"]


seen = st.builds(
    ExporterView,
    namespace=st.just("lab"),
    name=st.sampled_from("abcd"),
    state=st.sampled_from(["free", "leased", "offline"]),
    reason=st.sampled_from(["", "why"]),
    status=st.sampled_from(STATUSES),
    online=st.booleans(),
    enabled=st.booleans(),
    labels=st.dictionaries(st.sampled_from("kl"), st.sampled_from("vw"), max_size=2),
)
looks = st.lists(seen, max_size=4, unique_by=lambda one: one.name)


@given(looks, looks)
def test_nothing_is_told_of_what_stayed_and_everything_of_what_did_not(
    before: list[ExporterView], after: list[ExporterView]
) -> None:
    assert list(exporter_changes(after, after)) == []
    told = {one.name for one, _ in exporter_changes(before, after)}
    old, new = ({one.name: (one.status_text, one.labels) for one in look} for look in (before, after))
    assert told == {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
