"""The part of a client's or exporter's status that describes its token. No I/O."""

from __future__ import annotations

import copy

from jumpstarter_controller.store.kubernetes.conditions import condition_of, with_conditions
from jumpstarter_controller.store.kubernetes.fields import PREFIX, Object, dig
from jumpstarter_controller.store.kubernetes.texts import time_text

__all__ = ["CREDENTIAL", "EXPIRING", "next_look", "with_credential", "with_trouble"]

EXPIRING = "TokenExpiring"
"""The type of the condition in which Jumpstarter's own controller says that a token ends."""
CREDENTIAL = f"{PREFIX}Credential"
"""The type of the condition that an object has while it can get no token."""
DAY = 86400.0
_THRESHOLDS = ((0.0, "Expired"), (7 * DAY, "ExpiresWithin7Days"), (30 * DAY, "ExpiresWithin30Days"))


def with_credential(
    item: Object, endpoint: str, secret: str, expires: float, *, now: float, note: str = ""
) -> Object:
    """The object, saying where it reaches the controller, with which Secret, and how long; the same if it does so.

    `note` is what else there is to know of such a token.
    """
    left = expires - now
    reason = next((reason for most, reason in _THRESHOLDS if left <= most), "Valid")
    end = time_text(int(expires))
    message = f"The token in the Secret {secret} {'expired' if left <= 0 else 'expires'} on {end}" + (
        f"; {note}" if note else ""
    )
    condition = condition_of(item, EXPIRING, reason != "Valid", reason, message, since=now)
    conditions = [one for one in with_conditions(item, condition) if one.get("type") != CREDENTIAL]
    return _with_status(
        item,
        {
            "endpoint": endpoint,
            "credential": {"name": secret},
            "tokenExpiresAt": end,
            "conditions": conditions,
        },
    )


def with_trouble(item: Object, endpoint: str, why: str, now: float) -> Object:
    """The object, saying why it has no token, or one that cannot be looked after; the same if it does so."""
    trouble = condition_of(item, CREDENTIAL, False, "Unavailable", why, since=now)
    return _with_status(item, {"endpoint": endpoint, "conditions": with_conditions(item, trouble)})


def next_look(expires: float, now: float, renew_at: float) -> float:
    """When something of that is another: seconds since the epoch."""
    times = [renew_at, *(expires - most for most, _ in _THRESHOLDS)]
    return min((one for one in times if one > now), default=now + DAY)


def _with_status(item: Object, news: Object) -> Object:
    if all(dig(item, "status", key) == value for key, value in news.items()):
        return item
    changed = copy.copy(item)
    changed["status"] = (dig(item, "status") or {}) | news
    return changed
