from __future__ import annotations

import pytest

from jumpstarter_drivers.serial.console_keys import HELP, Keys, TerminalKey


@pytest.mark.parametrize(
    ("typed", "forwarded", "keys"),
    [
        ([b"ls\r"], b"ls\r", []),
        ([b"\x02\x02"], b"\x02\x02", []),
        ([b"\x02\x02\x02"], b"\x02\x02", [TerminalKey.EXIT]),
        ([b"a\x02", b"\x02", b"\x02b"], b"a\x02\x02", [TerminalKey.EXIT]),
        ([b"\x02\x02x\x02"], b"\x02\x02x\x02", []),
        ([b"\x03"], b"\x03", []),
        ([b"a\x1d", b"pb"], b"ab", [TerminalKey.POWER]),
        (
            [b"\x1dP\x1db\x1d?\x1d1"],
            b"",
            [TerminalKey.POWER, TerminalKey.BOOKMARK, TerminalKey.HELP, TerminalKey.HELP],
        ),
        ([b"\x1d\x1dq"], b"\x1dq", []),
        ([b"x\x1dqy"], b"x", [TerminalKey.EXIT]),
        ([b"\x02\x02\x1d\x1d\x02"], b"\x02\x02\x1d\x02", []),
    ],
)
def test_keys_are_found_in_what_is_typed(
    typed: list[bytes], forwarded: bytes, keys: list[TerminalKey]
) -> None:
    machine = Keys()
    found = [part for piece in typed for part in machine.feed(piece)]
    assert b"".join(part.data for part in found) == forwarded
    assert [part.key for part in found if part.key] == keys


def test_help_shows_every_key() -> None:
    for key in TerminalKey:
        assert f"Ctrl-] {key.value} " in HELP
