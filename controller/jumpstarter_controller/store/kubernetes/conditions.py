"""Conditions in an object's status, as Kubernetes has them. No I/O."""

from __future__ import annotations

from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.texts import time_text

__all__ = ["condition_of", "conditions_of", "with_conditions"]

_MAX_MESSAGE = 32768


def conditions_of(item: Object) -> list[Object]:
    """All of them."""
    found = dig(item, "status", "conditions")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def condition_of(item: Object, kind: str, status: bool, reason: str, message: str, *, since: float) -> Object:
    """One of that type, which is so since then, unless it was so before (`with_conditions`)."""
    return {
        "type": kind,
        "status": "True" if status else "False",
        "reason": reason,
        "message": message[:_MAX_MESSAGE],
        "lastTransitionTime": time_text(since),
        "observedGeneration": item["metadata"].get("generation", 0),
    }


def with_conditions(item: Object, *news: Object) -> list[Object]:
    """The conditions with these in the place of those of their types, or behind all others."""
    by_type = {one["type"]: one for one in news}
    found = []
    for one in conditions_of(item):
        new = by_type.pop(one.get("type", ""), None)
        if new is not None and new["status"] == one.get("status"):
            same = all(new[key] == one.get(key) for key in ("reason", "message"))
            new = (
                one
                if same
                else new | {"lastTransitionTime": one.get("lastTransitionTime", new["lastTransitionTime"])}
            )
        found.append(one if new is None else new)
    return [*found, *by_type.values()]
