"""Filters leases in lists and watches: by the labels that were requested, and by tags."""

from __future__ import annotations

from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.lab import LEASE_ENDED, TAG_PREFIX, Lease
from jumpstarter_controller.selectors import Requirement, Selector, SelectorError, parse

__all__ = ["labels_of", "selector_of_filter", "selector_of_tags"]


def selector_of_filter(text: str) -> Selector:
    """Parse a filter. RpcError: INVALID_ARGUMENT, it is invalid."""
    try:
        return parse(text)
    except SelectorError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None


def selector_of_tags(text: str) -> Selector:
    """Parse a selector on tags. All of its keys have to be tag keys."""
    return Selector(
        tuple(
            Requirement(TAG_PREFIX + one.key, one.operator, one.values)
            for one in selector_of_filter(text).requirements
        )
    )


def labels_of(lease: Lease) -> dict[str, str]:
    """The labels of a lease for filters: the equalities of its selector, and its tags."""
    try:
        equalities = parse(lease.selector).equalities
    except SelectorError:  # somebody else has written it, and it has ended
        equalities = {}
    labels = {k: v for k, v in equalities.items() if not k.startswith(TAG_PREFIX)}
    labels |= {TAG_PREFIX + key: value for key, value in lease.tags.items()}
    if lease.ended is not None:
        labels[LEASE_ENDED] = "true"
    return labels
