"""A host's USB: files in the place of sysfs, and a backend of pyusb's in that of libusb."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import usb.backend.libusb1

from jumpstarter_drivers import usb_devices
from tests.support.usb_boards import BoardBackend
from tests.support.usb_hubs import Bus


@pytest.fixture
def usb_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardBackend]:
    """A host without devices. Whatever is opened of it has to be closed."""
    backend = BoardBackend(Bus(tmp_path / "host"))
    monkeypatch.setattr(usb_devices, "ROOT", backend.bus.root)
    monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda *_, **__: backend)
    yield backend
    assert backend.open == 0
    opened = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert [name for name in opened if name.startswith(str(backend.bus.root))] == []
