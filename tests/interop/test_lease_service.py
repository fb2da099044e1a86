"""Updates and ends of leases, pages and filters, and ownership."""

from __future__ import annotations

import time
from typing import Any

import pytest
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.v1 import jumpstarter_pb2

from tests.interop.desk import HOUR, Desk, ask, at, bare, change, said
from tests.interop.raw import Caller, refused


def test_extension_counts_from_the_begin(desk: Desk) -> None:
    desk.board("extended")
    lease = desk.lease("extended", seconds=60)
    assert desk.update(lease, seconds=HOUR).duration.seconds == HOUR
    assert refused(desk.ann.client, "UpdateLease", change(lease, begin_time=at(HOUR)))[1].startswith(
        "duration is required"
    )
    later = change(lease, begin_time=at(HOUR), seconds=60)
    assert "already started" in refused(desk.ann.client, "UpdateLease", later)[1]
    code, details = refused(desk.bob.client, "UpdateLease", change(lease, seconds=60))
    assert (code, "UpdateLease permission denied" in details) == ("UNKNOWN", True)


def test_transfer(desk: Desk) -> None:
    board = desk.board("given")
    waiting = desk.lease("given", begin_time=at(HOUR))
    bob = "namespaces/default/clients/bob"
    assert "not started yet" in refused(desk.ann.client, "UpdateLease", change(waiting, client=bob))[1]
    lease = desk.lease("given", seconds=60)
    for client, sentence in {
        "namespaces/other/clients/bob": "different namespace",
        "namespaces/default/clients/nobody": "target client not found",
    }.items():
        code, details = refused(desk.ann.client, "UpdateLease", change(lease, client=client))
        assert (code, sentence in details) == ("UNKNOWN", True), details
    board.report("LEASE_READY")
    listening = board.listen(bare(lease.name))
    listening.opened()
    dial = jumpstarter_pb2.DialRequest(lease_name=bare(lease.name))
    desk.ann.controller("Dial", dial)
    assert desk.update(lease, client=bob).client == bob
    code, details = refused(desk.ann.controller, "Dial", dial)
    assert (code, "permission denied" in details) == ("UNKNOWN", True)
    desk.bob.controller("Dial", dial)
    assert listening.next().router_token != listening.next().router_token
    listening.close()
    desk.delete(lease, who=desk.bob)
    code, details = refused(desk.bob.client, "UpdateLease", change(lease, client=bob))
    assert "already ended" in details


def test_deleting_twice_is_refused_and_releasing_twice_is_not(desk: Desk) -> None:
    desk.board("twice")
    lease = desk.lease("twice")
    assert "DeleteLease permission denied" in refused(desk.delete, lease, desk.bob)[1]
    desk.delete(lease)
    assert refused(desk.delete, lease)[0] == "FAILED_PRECONDITION"
    release = jumpstarter_pb2.ReleaseLeaseRequest(name=bare(lease.name))
    for _ in range(2):
        desk.ann.controller("ReleaseLease", release)
    assert "ReleaseLease permission denied" in refused(desk.bob.controller, "ReleaseLease", release)[1]


def test_a_lease_that_has_ended_by_itself_is_deleted_once(desk: Desk) -> None:
    """As with Jumpstarter's controller: a script that cleans up after an expiry has done nothing wrong."""
    lease = desk.lease("nothing-has-it")
    assert lease.HasField("effective_end_time")
    desk.delete(lease)
    assert refused(desk.delete, lease)[0] == "FAILED_PRECONDITION"
    assert desk.get(lease) == lease


def test_an_exporter_releases_its_own_lease_with_documented_codes_only(desk: Desk) -> None:
    mine, other = desk.board("released"), desk.board("unleased")
    lease = desk.lease("released")
    release = jumpstarter_pb2.ReleaseLeaseRequest(name=bare(lease.name))
    assert refused(other.controller, "ReleaseLease", release)[0] == "FAILED_PRECONDITION"
    nothing = jumpstarter_pb2.ReleaseLeaseRequest(name="nothing")
    assert refused(mine.controller, "ReleaseLease", nothing)[0] == "NOT_FOUND"
    for _ in range(2):
        mine.controller("ReleaseLease", release)
    assert said(desk.get(lease)) == [("Ready", "False", "Released")]


def test_the_old_way_to_release_counts_too(desk: Desk) -> None:
    board = desk.board("old-way")
    lease = desk.lease("old-way")
    board.report("AFTER_LEASE_HOOK", "Lease released (compat: ReportStatus with release_lease)", release=True)
    assert said(desk.get(lease)) == [("Ready", "False", "Released")]
    waiting = desk.lease("old-way")
    assert said(waiting) == [("Pending", "True", "NotReady")], "not before it says that it is available"
    board.report("AVAILABLE")
    assert desk.get(waiting).exporter


# Lists


def test_leases_in_pages(desk: Desk) -> None:
    wanted = sorted(
        bare(desk.lease("pages", name=f"page-{n}", tags={"pages": "1"}, begin_time=at(HOUR)).name)
        for n in range(5)
    )
    seen, token, sizes = [], "", []
    while True:
        request = pb.ListLeasesRequest(
            parent="namespaces/default", page_size=2, page_token=token, tag_filter="pages=1"
        )
        page = desk.ann.client("ListLeases", request)
        seen += [bare(one.name) for one in page.leases]
        sizes.append(len(page.leases))
        token = page.next_page_token
        if not token:
            break
    assert (seen, sizes) == (wanted, [2, 2, 1])
    everything = pb.ListLeasesRequest(parent="namespaces/default", tag_filter="pages=1")
    assert len(desk.ann.client("ListLeases", everything).leases) == 5


def test_exporters_in_pages_and_by_label(desk: Desk) -> None:
    for _ in range(3):
        desk.board("shelf")

    def listed(**words: Any) -> Any:
        return desk.ann.client("ListExporters", pb.ListExportersRequest(parent="namespaces/default", **words))

    first = listed(filter="kind in (shelf),!broken", page_size=2)
    rest = listed(filter="kind in (shelf),!broken", page_size=2, page_token=first.next_page_token)
    assert [len(first.exporters), len(rest.exporters), rest.next_page_token] == [2, 1, ""]
    for one in (*first.exporters, *rest.exporters):
        assert (dict(one.labels), one.online, one.status) == ({"kind": "shelf"}, True, 2)
        assert one.HasField("enabled")
        assert one.enabled
    code, _ = refused(lambda: listed(filter="kind in"))
    assert code == "INVALID_ARGUMENT"


def test_leases_by_their_own_labels_and_tags(desk: Desk) -> None:
    """A filter sees what a lease asked for, not what it got (10.44)."""
    desk.board("filtered")
    lease = desk.lease("filtered", tags={"build": "7", "job": "boot"})
    named = desk.lease(exporter_name=bare(lease.exporter), who=desk.bob)
    desk.delete(desk.lease("filtered", tags={"build": "7"}))

    def listed(**words: Any) -> list[str]:
        request = pb.ListLeasesRequest(parent="namespaces/default", **words)
        return [one.name for one in desk.ann.client("ListLeases", request).leases]

    assert listed(filter="kind=filtered") == [lease.name]
    assert listed(filter="kind=filtered,metadata.jumpstarter.dev/build=7") == [lease.name]
    assert listed(tag_filter="build=7,job in (boot)") == [lease.name]
    assert listed(tag_filter="build=8") == []
    assert named.name in listed(filter="!kind")
    assert len(listed(tag_filter="build=7", only_active=False)) == 2
    assert listed(tag_filter="build=7", only_active=True) == [lease.name]
    assert refused(lambda: listed(tag_filter="a in"))[0] == "INVALID_ARGUMENT"


# Who may see and do what


def test_everybody_sees_the_leases_of_their_namespace_only(desk: Desk) -> None:
    lease = desk.lease("seen", begin_time=at(HOUR))
    assert desk.get(lease, desk.bob).client == "namespaces/default/clients/ann"
    stranger = desk.lab.caller("eve", namespace="elsewhere")
    for method, request in {
        "GetLease": pb.GetLeaseRequest(name=lease.name),
        "DeleteLease": pb.DeleteLeaseRequest(name=lease.name),
        "UpdateLease": change(lease, seconds=60),
        "ListLeases": pb.ListLeasesRequest(parent="namespaces/default"),
        "CreateLease": ask("seen"),
        "ListExporters": pb.ListExportersRequest(parent="namespaces/default"),
        "GetExporter": pb.GetExporterRequest(name="namespaces/default/exporters/x"),
        "RotateToken": pb.RotateTokenRequest(parent="namespaces/default"),
    }.items():
        code, details = refused(stranger.client, method, request)
        assert (code, "namespace mismatch" in details) == ("PERMISSION_DENIED", True), method
    own = pb.ListLeasesRequest(parent="namespaces/elsewhere")
    assert list(stranger.client("ListLeases", own).leases) == []
    taken = ask("seen", name=bare(lease.name))
    taken.parent = "namespaces/elsewhere"
    assert said(stranger.client("CreateLease", taken)) == [("Unsatisfiable", "True", "NoAccess")]


@pytest.mark.parametrize(
    "name", ["", "x", "namespaces/default/leases", "namespaces/default/exporters/x", "a/b/c/d"]
)
def test_names_that_are_none(desk: Desk, name: str) -> None:
    assert refused(desk.ann.client, "GetLease", pb.GetLeaseRequest(name=name))[0] == "INVALID_ARGUMENT"


def test_who_does_not_say_who_they_are_is_refused_in_the_words_of_the_wire(desk: Desk) -> None:
    good = dict(desk.ann.metadata)
    bearer = good["authorization"]
    request = pb.ListLeasesRequest(parent="namespaces/default")

    def asked(*more: tuple[str, str], **replaced: str | None) -> tuple[str, str]:
        words = good | {key.replace("_", "-"): value for key, value in replaced.items()}
        metadata = [(key, value) for key, value in words.items() if value is not None]
        return refused(Caller(desk.ann.channel, *metadata, *more).client, "ListLeases", request)

    assert asked(authorization=None) == ("UNAUTHENTICATED", "missing authorization header")
    assert asked(("authorization", bearer)) == ("INVALID_ARGUMENT", "multiple authorization headers")
    assert asked(authorization="Basic x") == ("INVALID_ARGUMENT", "malformed authorization header")
    assert asked(authorization="Bearer x")[0] == "UNKNOWN"
    assert asked(jumpstarter_kind=None) == ("INVALID_ARGUMENT", "missing metadata: jumpstarter-kind")
    assert asked(("jumpstarter-namespace", "x"))[1] == "multiple metadata: jumpstarter-namespace"
    assert asked(jumpstarter_name="")[0] == "INVALID_ARGUMENT"
    assert asked(jumpstarter_kind="Exporter")[1].startswith("object kind mismatch")
    assert asked(jumpstarter_name="bob")[0] == "PERMISSION_DENIED"
    assert asked(jumpstarter_name="nobody")[0] == "UNKNOWN"
    lower = Caller(desk.ann.channel, *(good | {"authorization": bearer.replace("Bearer", "bearer")}).items())
    assert lower.client("ListLeases", request)


def test_a_rotated_token_counts_and_the_old_one_for_a_while(desk: Desk) -> None:
    """Jumpstarter's controller lets the old one count until its time is over; ours for a day at most."""
    carl = desk.lab.credential("Client", "carl")
    caller = Caller.of(carl)
    answer = caller.client("RotateToken", pb.RotateTokenRequest(parent="namespaces/default/clients/carl"))
    assert answer.token != carl.token
    assert answer.expiry.seconds > time.time() + 86400
    request = pb.ListLeasesRequest(parent="namespaces/default")
    renewed = Caller.of(carl, token=answer.token)
    renewed.client("ListLeases", request)
    caller.client("ListLeases", request)
    again = lab_pb2.ObjectRequest(kind="Client", namespace="default", name="carl")
    last = Caller.of(desk.lab.administrate("Rotate", again))
    last.client("ListLeases", request)
    for who in (caller, renewed):
        assert refused(who.client, "ListLeases", request)[0] == "PERMISSION_DENIED"
    for who in (caller, renewed, last):
        who.close()
