"""A host's USB hubs: files in the place of sysfs, and a backend of pyusb's in that of libusb."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import usb.backend.libusb1

from jumpstarter_drivers.power.usb_hub import switch, sysfs
from tests.support.usb_hubs import Backend, Bus


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A host without hubs. Whatever is opened of it has to be closed."""
    bus = Bus(tmp_path / "host")
    backend = Backend(bus)
    monkeypatch.setattr(sysfs, "ROOT", bus.root)
    monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda *_, **__: backend)
    monkeypatch.setattr(switch, "HOLD_SECONDS", 0.02)
    monkeypatch.setattr(switch, "CONFIRM_SECONDS", 0.1)
    yield bus
    assert backend.open == 0
    opened = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert [name for name in opened if name.startswith(str(bus.root))] == []
