"""What a filter sees of a lease, whoever has written it."""

from __future__ import annotations

from jumpstarter_controller.lab import TAG_PREFIX, Lease
from jumpstarter_controller.services.lease_filters import labels_of, selector_of_filter


def test_a_lease_with_a_selector_that_cannot_be_parsed_is_listed_by_what_else_it_has() -> None:
    lease = Lease(namespace="lab", name="x", client="ann", selector="board in (", tags={"ci": "7"}, ended=1.0)
    assert selector_of_filter("jumpstarter.dev/lease-ended=true").matches(labels_of(lease))
    assert not selector_of_filter("board=rpi4").matches(labels_of(lease))


def test_nobody_gives_a_lease_a_tag_by_asking_for_a_board_with_such_a_label() -> None:
    lease = Lease(namespace="lab", name="x", client="ann", selector=f"board=rpi4,{TAG_PREFIX}ci=7")
    assert labels_of(lease) == {"board": "rpi4"}
    assert labels_of(Lease(namespace="lab", name="x", client="ann", tags={"ci": "7"})) == {
        f"{TAG_PREFIX}ci": "7"
    }
