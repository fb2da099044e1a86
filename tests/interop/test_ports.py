"""The ports that tests choose before they start a server on them."""

from __future__ import annotations

from tests.interop.exporters import free_port


def test_a_port_is_given_to_one_caller_only() -> None:
    """A lab asks for its controller's and its router's port before it starts either."""
    assert len({free_port() for _ in range(500)}) == 500
