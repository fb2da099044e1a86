"""What may be a label's key and value (Kubernetes, "Labels and Selectors", syntax and character set)."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["LabelError", "check_key", "check_labels", "check_name", "check_value"]

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RULE = "letters, digits, '-', '_' and '.', at most 63, a letter or digit first and last"

MAX_LABELS = 128
"""Of one object. Each has less than 400 characters."""
_MAX_SHOWN_LENGTH = 80
"""Characters of what is wrong, in the sentence that says so."""


class LabelError(ValueError):
    """A label that cannot be one."""


def check_key(key: str) -> None:
    """LabelError unless it is `name` or `prefix/name`."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _DNS.fullmatch(prefix)):
        raise LabelError(
            f"label key {key[:_MAX_SHOWN_LENGTH]!r}: what is before the slash must be a lower-case DNS name"
        )
    if not _NAME.fullmatch(name):
        raise LabelError(f"label key {key[:_MAX_SHOWN_LENGTH]!r}: a name has {_RULE}")


def check_name(name: str) -> None:
    """LabelError unless it can name an object: it stands between slashes, so it has none."""
    if not _NAME.fullmatch(name):
        raise LabelError(f"{name[:_MAX_SHOWN_LENGTH]!r} is not a name; it has {_RULE}")


def check_value(key: str, value: str) -> None:
    """LabelError unless it is empty or a name."""
    if value and not _NAME.fullmatch(value):
        raise LabelError(f"label {key}: value {value[:_MAX_SHOWN_LENGTH]!r} is not allowed; it has {_RULE}")


def check_labels(labels: Mapping[str, str]) -> None:
    """LabelError for the first that is wrong, or if there are too many."""
    if len(labels) > MAX_LABELS:
        raise LabelError(
            f"there are {len(labels)} labels, and at most {MAX_LABELS} are allowed; leave some out"
        )
    for key, value in labels.items():
        check_key(key)
        check_value(key, value)
