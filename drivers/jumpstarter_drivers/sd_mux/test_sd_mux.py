"""SD muxes end to end: the client over gRPC on one side, the mux behind pyusb and SG_IO on the other."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, cast

import pytest
from jumpstarter_client.errors import DriverError, ExporterNotReady
from jumpstarter_exporter.driver import DeviceMissing

from jumpstarter_drivers import usb_devices
from jumpstarter_drivers.sd_mux import scsi, usb_sd_mux
from jumpstarter_drivers.sd_mux.driver import SDWire, UsbMux
from jumpstarter_drivers.sd_mux.mux_table import MUXES
from jumpstarter_drivers.storage import blocks
from jumpstarter_drivers.storage.client import StorageMuxFlasherClient
from jumpstarter_drivers.storage.state import Position
from jumpstarter_drivers.testing import host, serve, serve_async
from tests.support.sd_muxes import Mux, SdWire, SdWire3, UsbSdMux
from tests.support.usb_boards import BoardBackend, PluggedBoard

KINDS: dict[str, tuple[type[Any], dict[str, Any], dict[str, Any]]] = {
    # The mux, how it is made, and what the driver needs to find it.
    "sdwire": (SdWire, {}, {}),
    "sdwire3": (SdWire3, {}, {"port": "1-1"}),
    "usb-sd-mux": (UsbSdMux, {}, {}),
    "usb-sd-mux fast": (UsbSdMux, {"is_fast": True}, {}),
}
IMAGE = (bytes(510) + b"\x55\xaa").ljust(65536, b"\x07")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE)
    return path


def plug(usb_host: BoardBackend, kind: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Mux:
    make, values, _ = KINDS[kind]
    mux = make(**values, **more).plug(usb_host)
    if isinstance(mux, UsbSdMux):
        monkeypatch.setattr(scsi, "ioctl", mux.ioctl)
    return cast("Mux", mux)


def facts(client: Any) -> tuple[str, str]:
    status = cast("StorageMuxFlasherClient", client).status()
    assert isinstance(status, dict)
    return str(status["position"]), str(status["content"])


def test_every_kind_is_tested() -> None:
    assert {name.partition(" ")[0] for name in KINDS} == set(MUXES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_is_flashed_and_goes_to_the_board(
    usb_host: BoardBackend, kind: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = plug(usb_host, kind, monkeypatch)
    with serve(UsbMux(mux=kind.partition(" ")[0], **KINDS[kind][2])) as client:
        assert facts(client)[0] == mux.side
        cast("StorageMuxFlasherClient", client).flash(image)
        assert (mux.side, mux.card.content[: len(IMAGE)]) == ("dut", IMAGE)
        assert facts(client) == ("dut", "complete")
        client.host()
        assert facts(client)[0] == mux.side == "host"
        assert mux.card.is_at_host
        client.off()
        assert facts(client)[0] == mux.side == ("off" if isinstance(mux, UsbSdMux) else "host")
        client.dut()
        assert facts(client)[0] == mux.side == "dut"
        assert not mux.card.is_at_host


def test_a_mux_that_was_switched_by_hand_or_plugged_in_again_is_asked(usb_host: BoardBackend) -> None:
    mux = SdWire().plug(usb_host)
    with serve(SDWire()) as client:
        client.dut()
        mux.card.move(to_host=True)
        assert facts(client)[0] == "host"
        client.dut()
        assert mux.side == "dut"


async def test_at_open_switches_with_the_first_use_and_in_no_later_session(usb_host: BoardBackend) -> None:
    mux = SdWire().plug(usb_host)
    mux.card.move(to_host=True)
    async with host(SDWire, at_open="dut") as devices:
        async with serve_async(devices) as client:
            await cast("StorageMuxFlasherClient", client).status.aio()
            assert mux.side == "dut"
            await cast("StorageMuxFlasherClient", client).host.aio()
        async with serve_async(devices) as client:
            await cast("StorageMuxFlasherClient", client).status.aio()
            assert mux.side == "host"


def test_a_mux_that_is_unplugged_while_it_is_flashed(
    usb_host: BoardBackend, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = SdWire().plug(usb_host)
    real = blocks._write_fully

    def write(fd: int, block: Any, offset: int) -> None:
        mux.unplug()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with serve(SDWire()) as raw:
        client = cast("StorageMuxFlasherClient", raw)
        monkeypatch.setattr(blocks, "_write_fully", write)
        with pytest.raises(
            DriverError, match=r"dev/sda failed \(Input/output error\); check that the card is plugged"
        ):
            client.flash(image, whole=True)
        monkeypatch.setattr(blocks, "_write_fully", real)
        with pytest.raises(DriverError, match="no SDWire is plugged in; check its cable"):
            client.status()
        usb_host.boards.clear()
        (usb_host.bus.devices / "1-1.1").unlink()
        again = SdWire(port="1-2.2").plug(usb_host)
        again.card.move(to_host=True)
        assert facts(client) == ("host", "incomplete")
        with pytest.raises(DriverError, match="holds an incomplete image"):
            client.dut()
        client.flash(image)
        assert (again.side, again.card.content[: len(IMAGE)]) == ("dut", IMAGE)


@pytest.mark.parametrize("kind", ["sdwire", "usb-sd-mux"])
def test_a_mux_that_does_not_switch_is_found_out(
    usb_host: BoardBackend, kind: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = plug(usb_host, kind, monkeypatch, behaviour="unprogrammed")
    side = mux.side
    with serve(UsbMux(mux=kind)) as client:
        with pytest.raises(
            DriverError, match=rf"was told to switch the card to host, and did not; {MUXES[kind].hint}"
        ):
            cast("StorageMuxFlasherClient", client).flash(image)
        assert facts(client) == (side, "as found")


def test_an_adapter_that_resembles_a_mux_is_left_alone(usb_host: BoardBackend) -> None:
    usb_host.plug(PluggedBoard(ids="04e8:6001", product="Samsung phone", port="1-1"))
    usb_host.plug(PluggedBoard(ids="0403:6015", product="FT231X USB UART", port="1-2"))
    usb_host.plug(PluggedBoard(ids="0424:4041", product="Ultra Fast Media Reader", port="1-3"))
    for driver, label in (SDWire(), "SDWire"), (UsbMux(mux="usb-sd-mux"), "USB-SD-Mux"):
        with serve(driver) as client, pytest.raises(DriverError, match=f"no {label} is plugged in"):
            client.host()
    with pytest.raises(
        ValueError, match="an SDWire3 has the ids of a plain card reader; say which one it is with"
    ):
        SDWire(mux="sdwire3")


def test_an_sdwire_without_its_hub_has_no_known_reader(
    usb_host: BoardBackend, image: Path, tmp_path: Path
) -> None:
    mux = SdWire(hub="05e3:0608").plug(usb_host)
    with serve(SDWire()) as client:
        with pytest.raises(DriverError, match=r"is not behind a hub of its own, .* set `storage_device`"):
            cast("StorageMuxFlasherClient", client).flash(image)
        assert mux.side == "dut"
    with serve(SDWire(storage_device=str(mux.card.node))) as client:
        cast("StorageMuxFlasherClient", client).flash(image)
    assert mux.card.content[: len(IMAGE)] == IMAGE


def test_several_muxes_and_one_serial_number(usb_host: BoardBackend) -> None:
    first = SdWire3(port="1-1").plug(usb_host)
    second = SdWire3(port="1-2").plug(usb_host)
    with (
        serve(UsbMux(mux="sdwire3", serial=first.serial)) as client,
        pytest.raises(
            DriverError, match=r"2 SDWire3s have the serial number .*; tell them apart by `port`, .* 1-1, 1-2"
        ),
    ):
        client.dut()
    assert (first.side, second.side) == ("host", "host")
    first.kernel_driver = second.kernel_driver = "usb-storage"


def test_a_reader_that_gets_another_number_after_its_reset(usb_host: BoardBackend) -> None:
    mux = SdWire3(behaviour="renumbers").plug(usb_host)
    with serve(UsbMux(mux="sdwire3", port="1-1")) as client:
        client.dut()
    assert mux.side == "dut"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES])
def test_a_card_that_the_host_has_mounted_stays(
    usb_host: BoardBackend, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    mux = SdWire().plug(usb_host)
    real = os.open

    def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if str(path).endswith("dev/sda") and flags & os.O_EXCL:
            raise OSError(code, os.strerror(code))
        return real(path, flags, *more, **named)

    mounts = usb_host.bus.root / "proc/self/mountinfo"
    mounts.write_text(f"29 1 8:1 / /media/card rw - ext4 {mux.card.node}1 rw\n")
    with serve(SDWire()) as client:
        client.host()
        monkeypatch.setattr(os, "open", opened)
        with pytest.raises(DriverError, match=r"dev/sda is in use on the exporter host; unmount it there"):
            client.dut()
        monkeypatch.setattr(os, "open", real)
        assert facts(client)[0] == mux.side == "host"


def test_no_card_in_the_mux(usb_host: BoardBackend, image: Path) -> None:
    mux = SdWire().plug(usb_host)
    mux.card._away.write_bytes(b"")
    with serve(SDWire(storage_timeout=0.3)) as client:
        with pytest.raises(
            DriverError, match=r"did not appear at the host within 0\.3 s; check that a card is in"
        ):
            cast("StorageMuxFlasherClient", client).flash(image)
        assert facts(client) == ("dut", "as found")


def test_a_missing_permission_names_node_and_remedy(
    usb_host: BoardBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = SdWire(permitted=False).plug(usb_host)
    node = usb_host.bus.root / f"dev/bus/usb/001/{mux.address:03}"
    node.parent.mkdir(parents=True)
    node.touch(mode=0o644)
    with (
        serve(SDWire()) as client,
        pytest.raises(
            DriverError, match=rf"may not use the SDWire at 1-1.2 .*: it may not open {node}; .*for udev"
        ),
    ):
        client.host()


def test_without_the_sg_module_there_is_one_sentence(usb_host: BoardBackend) -> None:
    mux = UsbSdMux().plug(usb_host)
    (unit,) = mux.directory.glob("*:*/host*/target*/*:*:*:*")
    (unit / "scsi_generic/sg0").rmdir()
    with (
        serve(UsbMux(mux="usb-sd-mux")) as client,
        pytest.raises(DriverError, match=r"the USB-SD-Mux at 1-1 .* has no /dev/sg node; .*modprobe sg"),
    ):
        client.host()


def test_a_mux_that_another_exporter_uses_is_waited_for(
    usb_host: BoardBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    mux = SdWire().plug(usb_host)
    monkeypatch.setattr(usb_devices, "_LOCK_SECONDS", 0.05)
    descriptor = os.open(mux.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with (
            serve(SDWire()) as client,
            pytest.raises(ExporterNotReady, match="another process is using the SDWire"),
        ):
            client.host()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("chip", [usb_sd_mux.CLASSIC, usb_sd_mux.FAST])
def test_pins_that_are_no_switches_keep_their_level(chip: usb_sd_mux.Expander) -> None:
    outputs = 0xFF & ~chip.pins
    for wanted in (Position.HOST, Position.DUT, Position.OFF):
        written = [one for one in usb_sd_mux.steps(chip, wanted, 0x10, outputs) if one is not None]
        assert {register for register, _ in written} == {usb_sd_mux.OUTPUT}
        assert {value & 0xF0 for _, value in written} == {0x10}
        assert usb_sd_mux.position(chip, written[-1][1]) is wanted


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"mux": "sdwire2"}, "mux is 'sdwire2'; did you mean 'sdwire'"),
        ({"mux": "sdwire", "at_open": True}, "at_open is on; it takes leave, host, dut or off"),
        ({"mux": "sdwire", "release": True}, "release is on"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        UsbMux(**config)


def test_a_look_finds_the_mux(usb_host: BoardBackend) -> None:
    with pytest.raises(DeviceMissing, match="no SDWire is plugged in; check its cable"):
        SDWire().look_at_hardware()
    SdWire().plug(usb_host)
    assert SDWire().look_at_hardware() == "there is a SDWire at 1-1.2 (serial number sdw-7)"


def test_0_9s_keys_are_taken(usb_host: BoardBackend) -> None:
    SdWire().plug(usb_host)
    keys: dict[str, Any] = {"storage_timeout": 10, "storage_leeway": 6, "storage_fsync_timeout": 900}
    assert SDWire(serial="sdw-7", **keys).describe_hardware() == (
        "the card in the SDWire at 1-1.2 (serial number sdw-7)"
    )
