"""Dial, Listen and Status: how a client and an exporter find each other."""

from __future__ import annotations

from jumpstarter_proto.v1 import jumpstarter_pb2

from tests.interop.desk import Desk, bare
from tests.interop.raw import refused


def test_dial_says_why_not(desk: Desk) -> None:
    board = desk.board("dialled")
    lease = desk.lease("dialled")

    def dial(name: str = bare(lease.name)) -> tuple[str, str]:
        return refused(desk.ann.controller, "Dial", jumpstarter_pb2.DialRequest(lease_name=name))

    assert dial("") == ("UNKNOWN", "empty lease name")
    assert "not found" in dial("nothing")[1]
    waiting = desk.lease("dialled")
    code, details = dial(bare(waiting.name))
    assert (code, "lease not active" in details) == ("UNKNOWN", True)
    board.report("LEASE_READY")
    code, details = dial()
    assert (code, "not listening on lease" in details) == ("UNAVAILABLE", True)
    board.report("BEFORE_LEASE_HOOK_FAILED", "it hurt")
    code, details = dial()
    assert (code, "beforeLease hook failed" in details) == ("FAILED_PRECONDITION", True)
    board.report("OFFLINE")
    code, details = dial()
    assert (code, "exporter is offline" in details) == ("FAILED_PRECONDITION", True)


def test_dial_waits_for_an_exporter_that_is_about_to_begin(desk: Desk) -> None:
    board = desk.board("beginning")
    lease = desk.lease("beginning")
    call = desk.ann.later("Dial", jumpstarter_pb2.DialRequest(lease_name=bare(lease.name)))
    listening = board.listen(bare(lease.name))
    listening.opened()
    assert not call.done()
    board.report("LEASE_READY")
    answer, heard = call.result(), listening.next()
    assert (answer.router_endpoint, answer.router_token) == (heard.router_endpoint, heard.router_token)
    listening.close()


def test_why_a_hook_refused_the_board_can_be_asked_as_long_as_its_exporter_listens(desk: Desk) -> None:
    """Jumpstarter's controller refuses to dial, and its client then waits for minutes without a reason."""
    board = desk.board("refusing")
    lease = desk.lease("refusing")
    listening = board.listen(bare(lease.name))
    listening.opened()
    board.report("BEFORE_LEASE_HOOK_FAILED", "it hurt")
    answer = desk.ann.controller("Dial", jumpstarter_pb2.DialRequest(lease_name=bare(lease.name)))
    assert answer.router_token == listening.next().router_token
    listening.close()


def test_a_new_listen_replaces_the_old_and_gets_what_waits(desk: Desk) -> None:
    board = desk.board("listening")
    lease = desk.lease("listening")
    board.report("BEFORE_LEASE_HOOK")
    first = board.listen(bare(lease.name))
    first.opened()
    second = board.listen(bare(lease.name))
    assert list(first) == [], "it ends with OK"
    desk.ann.controller("Dial", jumpstarter_pb2.DialRequest(lease_name=bare(lease.name)))
    assert second.next().router_token
    other = desk.board("eavesdropper")
    _, details = refused(other.listen(bare(lease.name)).next)
    assert "permission denied" in details
    second.close()


def test_connections_wait_for_an_exporter_that_is_busy_with_its_hook(desk: Desk) -> None:
    board = desk.board("crowded")
    lease = desk.lease("crowded")
    board.report("BEFORE_LEASE_HOOK")
    listening = board.listen(bare(lease.name))
    listening.opened()
    dial = jumpstarter_pb2.DialRequest(lease_name=bare(lease.name))
    for _ in range(8):
        desk.ann.controller("Dial", dial)
    for _ in range(8):
        assert listening.next().router_token
    listening.close()


def test_status_is_said_at_once_and_then_only_when_it_changes(desk: Desk) -> None:
    board = desk.board("watched")
    stream = board.status()
    assert not stream.next().leased
    for client in (desk.ann, desk.bob):
        lease = desk.lease("watched", who=client)
        said_now = stream.next()
        assert (said_now.leased, said_now.lease_name) == (True, bare(lease.name))
        assert said_now.client_name == dict(client.metadata)["jumpstarter-name"]
        desk.delete(lease, who=client)
        assert not stream.next().leased, "between two leases there is a moment without one"
    stream.close()


def test_two_leases_in_a_row_are_told_apart(desk: Desk) -> None:
    """The second waits already: it begins in the moment in which the first ends."""
    board = desk.board("switching")
    stream = board.status()
    stream.next()
    first, second = desk.lease("switching"), desk.lease("switching", who=desk.bob)
    assert stream.next().lease_name == bare(first.name)
    desk.delete(first)
    assert not stream.next().leased
    assert stream.next().lease_name == bare(second.name)
    stream.close()


def test_a_transfer_is_told_to_the_exporter(desk: Desk) -> None:
    board = desk.board("told")
    stream = board.status()
    stream.next()
    lease = desk.lease("told")
    assert stream.next().client_name == "ann"
    desk.update(lease, client="namespaces/default/clients/bob")
    now = stream.next()
    assert (now.leased, now.lease_name, now.client_name) == (True, bare(lease.name), "bob")
    stream.close()
