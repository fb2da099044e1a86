"""Labels that the host gives to each board which it registers, from its environment: JUMPSTARTER_BOARD_LABELS."""

from __future__ import annotations

import os
from collections.abc import Mapping

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["VARIABLE", "HostLabelsError", "host_labels"]

VARIABLE = "JUMPSTARTER_BOARD_LABELS"


class HostLabelsError(JumpstarterError):
    """The variable says something else than labels."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


def host_labels(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """By key, of `KEY=VALUE,KEY=VALUE`; none if there is no such variable. HostLabelsError for what is none."""
    labels: dict[str, str] = {}
    for text in environment.get(VARIABLE, "").split(","):
        key, equals, value = text.strip().partition("=")
        if not text.strip():
            continue
        if not key or not equals:
            raise HostLabelsError(
                f"${VARIABLE} has {text.strip()[:60]!r}, which is no label; write KEY=VALUE,KEY=VALUE"
            )
        labels[key] = value
    return labels
