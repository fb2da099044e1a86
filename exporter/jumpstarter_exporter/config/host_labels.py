"""Labels for each board that the host registers, from the environment variable JUMPSTARTER_BOARD_LABELS."""

from __future__ import annotations

import os
from collections.abc import Mapping

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["VARIABLE", "HostLabelsError", "host_labels"]

VARIABLE = "JUMPSTARTER_BOARD_LABELS"


class HostLabelsError(JumpstarterError):
    """The variable is not a list of labels."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


def host_labels(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Labels of `KEY=VALUE,KEY=VALUE`; empty if the variable is not set. HostLabelsError if it is invalid."""
    labels: dict[str, str] = {}
    for text in environment.get(VARIABLE, "").split(","):
        key, equals, value = text.strip().partition("=")
        if not text.strip():
            continue
        if not key or not equals:
            raise HostLabelsError(
                f"${VARIABLE} has {text.strip()[:60]!r}, which is not a label; write KEY=VALUE,KEY=VALUE"
            )
        labels[key] = value
    return labels
