"""Whether this machine can mock a host's devices."""

from __future__ import annotations

import pytest

from tools.mocked_host.bus import INSTALL, is_possible

__all__ = ["require_umockdev"]


def require_umockdev() -> None:
    """Skip the test if it cannot."""
    if not is_possible():
        pytest.skip(f"missing: umockdev; {INSTALL}")
