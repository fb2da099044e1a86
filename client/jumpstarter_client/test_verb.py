"""Methods as commands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.base import DriverClient
from jumpstarter_client.twin import twin, twin_context
from jumpstarter_client.verb import verb, verbs


class Base(DriverClient):
    """A client."""

    @verb
    @twin
    async def switch_on(self) -> None:
        """Switch it on,
        whatever it is.

        More of it.
        """

    @verb(name="read")
    def read_all(self) -> str:
        """Read."""
        return ""

    @twin
    async def silent(self) -> None:
        """No command."""


class Derived(Base):
    """Changes one, drops one, adds one."""

    read_all = None  # type: ignore[assignment]

    @twin
    async def switch_on(self, *, hard: bool = False) -> None:
        """Switch it on harder."""

    @verb
    def extra(self) -> None:
        """Be extra."""


def test_names_are_hyphenated_or_given() -> None:
    found = verbs(Base)
    assert list(found) == ["switch-on", "read"]
    assert found["read"].attribute == "read_all"


def test_help_is_the_first_paragraph_on_a_line() -> None:
    assert verbs(Base)["switch-on"].help == "Switch it on, whatever it is."


def test_a_subclass_keeps_changes_and_drops_verbs() -> None:
    found = verbs(Derived)
    assert list(found) == ["switch-on", "extra"]
    assert found["switch-on"].help == "Switch it on harder."


def test_a_context_manager_is_not_a_verb() -> None:
    @twin_context
    async def held(self: DriverClient) -> AsyncIterator[None]:
        yield

    with pytest.raises(JumpstarterUsageError, match="context manager"):
        verb(held)
