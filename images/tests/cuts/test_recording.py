"""What is of the recording without an emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_image.kept import Kept
from jumpstarter_image.retirement import SECTOR_BYTES
from jumpstarter_image.settings import read_site
from machine import Machine, MachineError

from cuts.recording import PASSPHRASES, _site_text


@pytest.mark.parametrize("is_closed", [True, False])
async def test_an_emulator_that_has_ended_is_said_at_once(tmp_path: Path, is_closed: bool) -> None:
    unused: Any = None
    near, far = trio.socket.socketpair()
    machine = Machine(tmp_path, unused, unused, trio.SocketStream(near), trio.current_time())
    if is_closed:
        far.close()
    else:
        far.shutdown(trio.socket.SHUT_WR)
    (tmp_path / "console.log").write_text("Power down")
    with near, far, trio.fail_after(20):
        with pytest.raises(MachineError, match=r"(?s)QEMU has ended.*Power down"):
            await machine.sh("true", seconds=600)
        with pytest.raises(MachineError, match=r"(?s)QEMU has ended.*Power down"):
            await machine.wait_for_shell(600)


def test_the_file_of_the_recording_is_valid_and_its_passphrase_crosses_a_border_of_sectors() -> None:
    made = {"endpoint": "10.0.2.2:8082", "fingerprint": ":".join(["3F"] * 32), "code": "HOST-ABCD-EFGH-JKLM"}
    text = _site_text(made)
    reading = read_site(text, Kept())
    assert reading.faults == ()
    assert reading.kept.wifi is not None
    assert reading.kept.wifi.passphrase == PASSPHRASES[0]
    begin = text.index(PASSPHRASES[0])
    assert begin < SECTOR_BYTES < begin + len(PASSPHRASES[0]) - 1
