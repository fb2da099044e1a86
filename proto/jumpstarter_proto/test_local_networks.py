"""Which networks exist on this host only."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from pathlib import Path

import pytest

from jumpstarter_proto import local_networks
from jumpstarter_proto.local_networks import local_bridge_of

NAMESPACE = """
set -e
mount -t sysfs none /sys
ip link add docker0 type bridge
ip link set lo up
ip link set docker0 up
ip address add 172.17.0.1/16 dev docker0
ip address add fd77::1/64 dev docker0 nodad
ip route add 198.51.100.0/24 via 172.17.0.9
"""
PROGRAM = """
from jumpstarter_proto.reach import AddressRefused, Reach
for host in ["172.17.0.1", "172.17.0.2", "172.18.0.2", "198.51.100.7", "fd77::1", "fd77::2", "fd78::2"]:
    try:
        Reach.limited().resolve(host, 80)
        print(host, "reached")
    except AddressRefused as error:
        print(host, "refused:", str(error).partition(",")[0].partition("leads to ")[2])
"""


def test_containers_of_the_host_are_not_reached() -> None:
    """On a bridge of a kernel, in a network of its own."""
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]
    try:
        subprocess.run([*unshare, NAMESPACE], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no bridges can be made here: {error}")
    done = subprocess.run(
        [*unshare, NAMESPACE + 'exec "$@"', "sh", sys.executable, "-c", PROGRAM],
        check=True,
        capture_output=True,
        text=True,
    )
    guest = "refused: a container or virtual machine of the exporter's host (on docker0)"
    assert dict(line.split(" ", 1) for line in done.stdout.splitlines()) == {
        "172.17.0.1": "refused: the exporter's host itself",
        "172.17.0.2": guest,
        "172.18.0.2": "reached",
        "198.51.100.7": "reached",
        "fd77::1": "refused: the exporter's host itself",
        "fd77::2": guest,
        "fd78::2": "reached",
    }


@pytest.fixture
def interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bridge with a network of its own behind a default route of another interface."""
    monkeypatch.setattr(local_networks, "INTERFACES", tmp_path / "net")
    monkeypatch.setattr(local_networks, "IPV4_ROUTES", tmp_path / "route")
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
        f"eth0\t{native('0.0.0.0')}\t{native('192.0.2.1')}\t0003\t0\t0\t0\t{native('0.0.0.0')}\n"
        f"br0\t{native('10.1.0.0')}\t{native('0.0.0.0')}\t0001\t0\t0\t0\t{native('255.255.0.0')}\n"
        f"br0\t{native('10.1.2.0')}\t{native('10.1.0.1')}\t0003\t0\t0\t0\t{native('255.255.255.0')}\n"
    )
    (tmp_path / "net/br0/bridge").mkdir(parents=True)
    (tmp_path / "net/eth0/device").mkdir(parents=True)
    return tmp_path / "net"


def native(address: str) -> str:
    return f"{int.from_bytes(ipaddress.IPv4Address(address).packed, sys.byteorder):08X}"


def is_local(address: str) -> bool:
    return bool(local_bridge_of(ipaddress.ip_address(address)))


def test_a_bridge_without_a_network_card_is_local(interfaces: Path) -> None:
    assert is_local("10.1.9.9")
    assert not is_local("10.2.9.9")
    assert not is_local("10.1.2.9"), "a gateway leads out of it"


def test_a_bridge_with_a_network_card_is_not(interfaces: Path) -> None:
    (interfaces / "vlan5").mkdir()
    (interfaces / "br0/lower_vlan5").symlink_to(interfaces / "vlan5")
    assert is_local("10.1.9.9")
    (interfaces / "vlan5/lower_eth0").symlink_to(interfaces / "eth0")
    assert not is_local("10.1.9.9")
