"""Checks host names and addresses of driver configurations, so that a wrong one is found when it is read."""

from __future__ import annotations

__all__ = ["check_host"]


def check_host(name: str) -> str:
    """Return `name` if it can be resolved or connected to as a host name or an IP address.

    The resolver raises UnicodeError, not OSError, for names such as `a..b`; only names that pass here may reach it.

    Raises:
        ValueError: the name is invalid. Its message is a sentence that does not contain the name.
    """
    if not name or not name.isprintable() or set(name) & set(" /\\@[]"):
        raise ValueError("it takes a host name or an IP address, such as device.lab or 10.0.0.7")
    try:
        name.encode("idna")
        if not name.isascii():
            from idna import encode  # noqa: PLC0415 - trio resolves such names with it

            encode(name, uts46=True)
    except UnicodeError:
        raise ValueError(
            "it takes a host name such as device.lab: each part between two dots has 1 to 63 characters, "
            "as DNS allows them"
        ) from None
    return name
