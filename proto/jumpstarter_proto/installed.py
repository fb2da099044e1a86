"""Which version of the project is installed: all of its programs say the same."""

from __future__ import annotations

__all__ = ["installed_version"]


def installed_version() -> str:
    """As Python writes versions, such as 0.1.0; of a package of Debian with the commit, too."""
    from importlib.metadata import version  # noqa: PLC0415 - costs a command some 10 ms that seldom says it

    return version("jumpstarter-sbc")
