"""The logs of a test's consoles."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from jumpstarter_client.yamltest.consoles import RunConsoles


@pytest.mark.parametrize(
    "path", ["../../../tmp/x", "/etc/x", "..", "a/b", "\x1b[2J\n", "x" * 300, "rpi4.serial"]
)
async def test_a_devices_name_names_no_file_elsewhere(
    tmp_path: Path, nursery: trio.Nursery, path: str
) -> None:
    folder = tmp_path / "results" / "boot"
    device: Any = SimpleNamespace(path=path)
    consoles = RunConsoles(nursery, folder)
    log = consoles._log(device)
    assert log is not None
    log.close()
    made = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.parent for file in made] == [folder]
    assert made == [consoles.logs[path]]
