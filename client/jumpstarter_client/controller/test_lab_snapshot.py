"""However a controller's news is cut into messages and calls, what is known is the lab as it was at one moment."""

from __future__ import annotations

import copy
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.rpc import RpcError

from jumpstarter_client.controller.lab_snapshot import LabSnapshot

Lab: TypeAlias = "dict[tuple[str, str], int]"
"""A version, by kind and name."""


def exporter(name: str, version: int) -> client_pb2.Exporter:
    return client_pb2.Exporter(name=f"namespaces/lab/exporters/{name}", status_message=str(version))


def lease(name: str, version: int, *, ended: bool = False) -> pb.LeaseNews:
    made = pb.LeaseNews(lease=client_pb2.Lease(name=f"namespaces/lab/leases/{name}"), place=version)
    if ended:
        made.lease.effective_end_time.seconds = version
    return made


def pages(
    records: list[tuple[str, str, int]], gone: list[tuple[str, str]], cuts: list[bool], *, snapshot: bool
) -> list[pb.LabNews]:
    """The news in as many messages as there are cuts; the last has the revision."""
    made = [pb.LabNews(snapshot=snapshot)]
    for kind, name, version in records:
        if cuts and cuts.pop():
            made.append(pb.LabNews())
        if kind == "exporter":
            made[-1].exporters.append(exporter(name, version))
        else:
            made[-1].leases.append(lease(name, version))
    for kind, name in gone:
        (made[-1].gone_exporters if kind == "exporter" else made[-1].gone_leases).append(name)
    return made


kinds = st.sampled_from(["exporter", "lease"])
places = st.tuples(kinds, st.sampled_from("abcd"))
steps = st.lists(
    st.tuples(
        st.dictionaries(places, st.none() | st.integers(1, 9), min_size=1),
        st.lists(st.booleans()),
        st.integers(0, 3),
        st.sampled_from(["nothing", "call", "controller"]),
    ),
    max_size=15,
)
"""What changes, how its telling is cut, after how many messages the call breaks, and what breaks."""


def seen(known: LabSnapshot) -> Lab:
    found = {("exporter", name): int(one.status_message) for name, one in known.exporters.items()}
    return found | {("lease", name): one.place for name, one in known.leases.items()}


@given(steps)
def test_what_is_known_is_the_lab_at_its_revision(
    steps: list[tuple[dict[tuple[str, str], int | None], list[bool], int, str]],
) -> None:
    history: list[Lab] = [{}]
    known = LabSnapshot()
    remembers = 0
    """Before that revision the controller knows nothing."""
    for changes, cuts, broken_after, what_breaks in steps:
        lab = dict(history[-1])
        for place, version in changes.items():
            if version is None:
                lab.pop(place, None)
            else:
                lab[place] = version
        history.append(lab)
        if what_breaks == "controller":
            remembers = len(history) - 1
        reached = int(known.revision) if known.revision else -1
        is_snapshot = reached < remembers
        before = {} if is_snapshot else history[reached]
        records = [(*place, version) for place, version in lab.items() if before.get(place) != version]
        gone = [place for place in before if place not in lab]
        messages = pages(records, gone, list(cuts), snapshot=is_snapshot)
        messages[-1].revision = str(len(history) - 1)
        was = copy.copy(seen(known))
        known.start_call()
        taken = messages if what_breaks == "nothing" else messages[:broken_after]
        complete = [known.apply(message) for message in taken]
        if len(taken) == len(messages):
            assert complete == [False] * (len(messages) - 1) + [True]
            assert seen(known) == lab
            assert known.revision == str(len(history) - 1)
        else:
            assert not any(complete)
            assert seen(known) == was, "half of it is nothing"
            assert known._current.size == sum(known._current.sizes.values())


def test_a_lease_that_ends_is_known_once_more() -> None:
    known = LabSnapshot()
    assert known.apply(pb.LabNews(snapshot=True, revision="1", leases=[lease("x", 1), lease("y", 1)]))
    assert known.apply(pb.LabNews(revision="2", leases=[lease("x", 2, ended=True)]))
    assert (set(known.leases), set(known.ended)) == ({"y"}, {"x"})
    assert known.apply(pb.LabNews(revision="3"))
    assert (set(known.leases), known.ended) == ({"y"}, {})


@pytest.mark.parametrize("repeats", ["the same", "others"])
@pytest.mark.parametrize("completes", [False, True])
def test_a_controller_that_tells_without_end_is_not_listened_to(repeats: str, completes: bool) -> None:
    known = LabSnapshot(max_bytes=100_000)
    revision = "1" if completes else ""

    def tell(number: int) -> None:
        name = "x" if repeats == "the same" else f"x{number}"
        found = exporter(name, number)
        found.labels["text"] = "x" * 900
        known.apply(pb.LabNews(exporters=[found], revision=revision))

    def tell_all() -> None:
        for number in range(500):
            tell(number)

    if repeats == "the same" and completes:
        tell_all()
        assert len(known.exporters) == 1
        return
    with pytest.raises(RpcError, match="more than 0 MiB of exporters and leases; ask its administrator"):
        tell_all()
    assert known._next is None


@given(st.binary(max_size=60))
def test_whatever_a_controller_says_is_taken_or_refused(data: bytes) -> None:
    try:
        news = pb.LabNews.FromString(data)
    except Exception:  # what is no message is the channel's to refuse
        return
    known = LabSnapshot()
    assert known.apply(news) is bool(news.revision)
