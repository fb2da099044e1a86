"""What a host stands on, found in sysfs and procfs, and never what it does not stand on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_drivers.power.usb_hub.host_dependencies import dependencies_below, find_host_dependencies
from jumpstarter_drivers.power.usb_hub.topology import PortLocation, parse_port


class Host:
    """Files in the place of a host's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounts: list[str] = []
        for folder in ("proc/self", "proc/net", "sys/dev/block", "sys/class/block", "sys/class/net"):
            (root / folder).mkdir(parents=True)
        (root / "sys/bus/usb/devices").mkdir(parents=True)

    def usb(self, path: str) -> Path:
        """The directory of a USB device: `1-1.3` is below `1-1`."""
        bus, _, ports = path.partition("-")
        place = self.root / f"sys/devices/pci0000:00/usb{bus}"
        for count in range(ports.count(".") + 1 if ports else 0):
            place /= f"{bus}-{'.'.join(ports.split('.')[: count + 1])}"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def block(self, name: str, number: str, above: Path, partition: str = "") -> Path:
        place = above / "block" / name
        place.mkdir(parents=True)
        (self.root / "sys/class/block" / name).symlink_to(place)
        if partition:
            (place / partition).mkdir()
            (place / partition / "partition").write_text("1\n")
            (self.root / "sys/class/block" / partition).symlink_to(place / partition)
            place /= partition
        (self.root / "sys/dev/block" / number).symlink_to(place)
        return place

    def volume(self, name: str, number: str, *parts: Path) -> Path:
        """A virtual disk of others."""
        place = self.block(name, number, self.root / "sys/devices/virtual")
        (place / "slaves").mkdir()
        for part in parts:
            (place / "slaves" / part.name).symlink_to(part)
        return place

    def mount(self, where: str, number: str, source: str) -> None:
        self.mounts.append(
            f"{len(self.mounts) + 20} 1 {number} / {where} rw,relatime shared:1 - ext4 {source} rw\n"
        )
        (self.root / "proc/self/mountinfo").write_text("".join(self.mounts))

    def interface(self, name: str, above: Path, *lower: str) -> None:
        place = above / "net" / name
        place.mkdir(parents=True)
        (self.root / "sys/class/net" / name).symlink_to(place)
        for one in lower:
            (place / f"lower_{one}").symlink_to(self.root / "sys/class/net" / one)

    def default_route(self, interface: str) -> None:
        (self.root / "proc/net/route").write_text(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
            f"{interface}\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
            "wlan9\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
        )

    def keyboard(self, path: str, protocol: str = "01") -> None:
        place = self.usb(path) / f"{path}:1.0"
        place.mkdir()
        for name, value in {"Class": "03", "SubClass": "01", "Protocol": protocol}.items():
            (place / f"bInterface{name}").write_text(f"{value}\n")
        (self.root / "sys/bus/usb/devices" / place.name).symlink_to(place)

    def behind(self, port: str) -> list[str]:
        return [one.what for one in dependencies_below(parse_port(port), find_host_dependencies(self.root))]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_root_disk_is_behind_every_port_above_it(host: Host) -> None:
    host.block("sda", "8:2", host.usb("1-1.3.2"), partition="sda2")
    host.mount("/", "8:2", "/dev/sda2")
    for port in ("1-1", "1-1.3", "1-1.3.2"):
        assert host.behind(port) == ["its file system / (sda2)"]
    for port in ("2-1", "1-1.3.1", "1-1.2", "1-1.31", "1-1.3.2.1"):
        assert host.behind(port) == []


def test_a_disk_whose_file_system_has_no_device_number_is_found_by_its_name(host: Host) -> None:
    host.block("sda", "8:2", host.usb("1-1"), partition="sda2")
    host.mount("/home", "0:42", "/dev/sda2")
    assert host.behind("1-1") == ["its file system /home (sda2)"]


def test_volumes_and_arrays_stand_on_their_disks(host: Host) -> None:
    first = host.block("sda", "8:1", host.usb("1-1.1"), partition="sda1")
    second = host.block("sdb", "8:16", host.usb("1-1.2"))
    array = host.volume("md0", "9:0", first, second)
    host.volume("dm-0", "253:0", array)
    host.mount("/var", "253:0", "/dev/mapper/data")
    assert host.behind("1-1.1") == ["its file system /var (sda1)"]
    assert host.behind("1-1.2") == ["its file system /var (sdb)"]


def test_swap_is_something_to_stand_on(host: Host) -> None:
    host.block("sdc", "8:33", host.usb("1-1"), partition="sdc1")
    (host.root / "proc/swaps").write_text(
        "Filename\tType\tSize\tUsed\tPriority\n/dev/sdc1 partition 1 0 -2\n"
    )
    assert host.behind("1-1") == ["its swap (sdc1)"]


@pytest.mark.parametrize("where", ["/media/pi/BOOT", "/mnt", "/run/media/x/y"])
def test_what_a_user_mounts_is_none_of_the_hosts(host: Host, where: str) -> None:
    host.block("sda", "8:0", host.usb("1-1"))
    host.mount(where, "8:0", "/dev/sda")
    assert host.behind("1-1") == []


def test_a_file_system_with_a_space_in_its_name(host: Host) -> None:
    host.block("sda", "8:0", host.usb("1-1"))
    host.mount(r"/my\040data", "8:0", "/dev/sda")
    assert host.behind("1-1") == ["its file system /my data (sda)"]


def test_network_of_a_raspberry_pi_3_hangs_on_its_usb_hub(host: Host) -> None:
    host.interface("eth0", host.usb("1-1.1") / "1-1.1:1.0")
    host.interface("wlan9", host.usb("1-1.2") / "1-1.2:1.0")
    host.default_route("eth0")
    assert host.behind("1-1.1") == host.behind("1-1") == ["the interface of its default route (eth0)"]
    assert host.behind("1-1.2") == []


def test_a_bridge_or_vlan_stands_on_its_interfaces(host: Host) -> None:
    host.interface("eth1", host.usb("1-1.4") / "1-1.4:1.0")
    host.interface("eth1.7", host.root / "sys/devices/virtual", "eth1")
    host.interface("br0", host.root / "sys/devices/virtual", "eth1.7")
    host.default_route("br0")
    assert host.behind("1-1.4") == ["the interface of its default route (eth1)"]


def test_a_default_route_of_ipv6_counts(host: Host) -> None:
    host.interface("usb0", host.usb("1-2") / "1-2:1.0")
    zero = "0" * 32
    (host.root / "proc/net/ipv6_route").write_text(
        f"{zero} 00 {zero} 00 {'fe80'.ljust(32, '0')} 00000400 00000001 00000000 00000003 usb0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert host.behind("1-2") == ["the interface of its default route (usb0)"]


def test_keyboard_and_mouse_are_the_hosts_and_other_input_devices_are_not(host: Host) -> None:
    host.keyboard("1-1.1")
    host.keyboard("1-1.2", "02")
    host.keyboard("1-1.3", "00")
    assert host.behind("1-1.1") == ["its keyboard (1-1.1:1.0)"]
    assert host.behind("1-1.2") == ["its mouse (1-1.2:1.0)"]
    assert host.behind("1-1.3") == []


def test_a_host_that_stands_on_nothing_of_usb(host: Host) -> None:
    """A Raspberry Pi 4 or 5, a PC, a virtual machine: disk and network hang on other buses."""
    host.block("mmcblk0", "179:2", host.root / "sys/devices/platform/emmc2bus", partition="mmcblk0p2")
    host.mount("/", "179:2", "/dev/root")
    host.interface("eth0", host.root / "sys/devices/platform/scb/fd580000.ethernet")
    host.default_route("eth0")
    host.usb("1-1.3")
    assert {one.what for one in find_host_dependencies(host.root)} == {
        "its file system / (mmcblk0p2)",
        "the interface of its default route (eth0)",
    }
    assert host.behind("1-1") == []


def test_files_that_are_missing_or_nonsense_are_no_error(host: Host) -> None:
    (host.root / "proc/self/mountinfo").write_bytes(b"\xff - \n- -\n1 2\n\n1 2 3 4 5 - 6\n")
    (host.root / "proc/net/route").write_text("Iface\n../../etc 00000000 0 0 0 0 0 00000000\n\n")
    assert find_host_dependencies(host.root) == []
    assert find_host_dependencies(host.root / "nowhere") == []


ports = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(lambda path: f"1-{'.'.join(map(str, path))}")


@settings(max_examples=25)  # each makes files
@given(ports, ports, ports, st.booleans())
def test_a_port_is_above_the_host_exactly_if_its_name_leads_there(
    disk: str, network: str, port: str, is_encrypted: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        place = host.block("sda", "8:1", host.usb(disk), partition="sda1")
        if is_encrypted:
            host.volume("dm-0", "253:0", place)
        host.mount("/", "253:0" if is_encrypted else "8:1", "/dev/root")
        host.interface("eth0", host.usb(network) / f"{network}:1.0")
        host.default_route("eth0")
        expected = [f"{device}.".startswith(f"{port}.") for device in (disk, network)]
        assert [any(name in what for what in host.behind(port)) for name in ("sda1", "eth0")] == expected


def test_locations_of_root_ports_have_names_of_devices() -> None:
    assert PortLocation("usb1", 2).name == "1-2"
