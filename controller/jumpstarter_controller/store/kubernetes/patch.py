"""JSON merge patches (RFC 7386): what of an object has to become another. No I/O."""

from __future__ import annotations

from typing import Any

from jumpstarter_controller.store.kubernetes.fields import Object

__all__ = ["merge_patch"]


def merge_patch(before: Object, after: Object) -> Object:
    """Return the merge patch from `before` to `after`. Equal fields are left out, so that changes by others stay."""
    patch: Object = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old: Any = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or value != old or type(value) is not type(old):
            patch[key] = value
    return patch
