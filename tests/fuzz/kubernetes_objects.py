"""The watches of a Kubernetes API server, in which anybody who may write objects has put what they like."""

from __future__ import annotations

import json
from contextlib import suppress

from jumpstarter_controller.lab import Lease
from jumpstarter_controller.lab.tables import KINDS
from jumpstarter_controller.store.contract import Half, StoreEvent
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.informer import Informer
from jumpstarter_controller.store.kubernetes.kinds import MAPPINGS
from jumpstarter_controller.store.kubernetes.mapping import NoRecordError, place_of, revision_of
from jumpstarter_controller.store.kubernetes.patch import merge_patch
from jumpstarter_controller.store.kubernetes.test_mapping import full

__all__ = ["watch", "watches"]

_BY_NAME = {one.kind: one for one in MAPPINGS.values()}
NOW = 1_764_460_800.5


def watch(data: bytes) -> None:
    """What is told is read, and what is read is written again."""
    with suppress(ValueError):
        list(Informer(0, _event).feed(data + b"\n"))


def _event(word: str, item: Object) -> StoreEvent:
    mapping = _BY_NAME.get(str(item.get("kind")), MAPPINGS[Lease])
    place, revision = place_of(mapping, item), revision_of(item)
    if word == "DELETED":
        return StoreEvent(place, revision, None)
    try:
        stored = mapping.read(item)
    except NoRecordError:
        return StoreEvent(place, revision, None)
    for half in Half:
        merge_patch(item, mapping.changed(item, full(mapping.record, place[1].namespace), half, "id", NOW))
    return StoreEvent(place, revision, stored)


def watches() -> list[bytes]:
    """A line for each kind of object, with something in every field, and a few others."""
    lines = [
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}},
        {"type": "ERROR", "object": {"code": 410, "message": "too old"}},
    ]
    for kind in KINDS:
        mapping, record = MAPPINGS[kind], full(kind)
        item = mapping.made(record, "lab", "id", 7)
        item["metadata"] |= {
            "uid": "u",
            "resourceVersion": "5",
            "creationTimestamp": "2026-11-28T08:00:00Z",
            "generation": 1,
        }
        item = mapping.changed(item, record, Half.STATUS, "id-2", NOW)
        lines += [{"type": word, "object": item} for word in ("ADDED", "DELETED")]
    return [json.dumps(line).encode() for line in lines]
