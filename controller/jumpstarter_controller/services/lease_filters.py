"""How lists and watches choose leases: by the labels that were asked for, and by tags."""

from __future__ import annotations

from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.lab import Lease
from jumpstarter_controller.selectors import Requirement, Selector, SelectorError, parse

__all__ = ["labels_of", "selector_of_filter", "selector_of_tags"]

TAG_PREFIX = "metadata.jumpstarter.dev/"


def selector_of_filter(text: str) -> Selector:
    """A filter as a caller wrote it; RpcError INVALID_ARGUMENT if it cannot be understood."""
    try:
        return parse(text)
    except SelectorError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None


def selector_of_tags(text: str) -> Selector:
    """A selector on tags: each of its keys is a tag's."""
    return Selector(
        tuple(
            Requirement(TAG_PREFIX + one.key, one.operator, one.values)
            for one in selector_of_filter(text).requirements
        )
    )


def labels_of(lease: Lease) -> dict[str, str]:
    """What a filter sees of a lease: the equalities of its selector, and its tags."""
    try:
        equalities = parse(lease.selector).equalities
    except SelectorError:  # somebody else has written it, and it has ended
        equalities = {}
    labels = {k: v for k, v in equalities.items() if not k.startswith(TAG_PREFIX)}
    labels |= {TAG_PREFIX + key: value for key, value in lease.tags.items()}
    if lease.ended is not None:
        labels["jumpstarter.dev/lease-ended"] = "true"
    return labels
