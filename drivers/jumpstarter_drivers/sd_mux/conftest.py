"""A host's USB for the tests of the muxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import usb.backend.libusb1

from jumpstarter_drivers import usb_devices
from jumpstarter_drivers.sd_mux import usb_sd_mux
from tests.support.usb_boards import BoardBackend
from tests.support.usb_hubs import Bus


@pytest.fixture
def usb_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardBackend]:
    """A host without devices. Whatever is opened of it has to be closed."""
    backend = BoardBackend(Bus(tmp_path / "host"))
    monkeypatch.setattr(usb_devices, "ROOT", backend.bus.root)
    monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda *_, **__: backend)
    monkeypatch.setattr(usb_sd_mux, "SETTLE_SECONDS", 0)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    yield backend
    assert backend.open == 0
