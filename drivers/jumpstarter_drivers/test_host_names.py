"""A host name of a configuration is either refused when it is read, or ends in an error that drivers expect."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_drivers.host_names import check_host
from jumpstarter_drivers.http_power.driver import EnerGenie, HttpEndpoint, HttpOutlet, HttpPower
from jumpstarter_drivers.mqtt_power.driver import MqttOutlet, TasmotaPower
from jumpstarter_drivers.network.driver import TcpNetwork, UdpNetwork
from jumpstarter_drivers.snmp_power.driver import SnmpOutlet, SNMPServer
from jumpstarter_drivers.video.driver import HttpVideo


def _http_power(host: str) -> HttpPower:
    good = HttpEndpoint(url="http://10.0.0.7/")
    return HttpPower(power_on=good, power_off=HttpEndpoint(url=f"http://{host}/"))


MAKERS: list[Callable[[str], Any]] = [
    lambda host: EnerGenie(host=host),
    lambda host: HttpOutlet(device="shelly", host=host),
    lambda host: HttpOutlet(device="shelly", host=f"https://{host}:8080"),
    _http_power,
    lambda host: MqttOutlet(device="tasmota", topic="t", host=host),
    lambda host: TasmotaPower(cmnd_topic="c", stat_topic="s", host=host),
    lambda host: TcpNetwork(host=host, port=22),
    lambda host: UdpNetwork(host=host, port=22),
    lambda host: SnmpOutlet(device="apc-rpdu2", outlet=1, community="c", host=host),
    lambda host: SNMPServer(user="u", plug=1, host=host),
    lambda host: HttpVideo(url=f"http://{host}/"),
    lambda host: HttpVideo(url="http://camera.lab/", snapshot_url=f"http://{host}/"),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("host", ["a..b", ".lab", f"{'a' * 64}.lab"])
def test_a_host_name_that_cannot_be_resolved_is_refused_in_a_sentence(
    make: Callable[[str], Any], host: str
) -> None:
    with pytest.raises(ValueError, match=r"it takes a host name such as device\.lab: each part") as caught:
        make(host)
    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("host", ["device.lab", "device.lab.", "10.0.0.7", "raspi", "x_1.lab"])
def test_usual_names_are_accepted(make: Callable[[str], Any], host: str) -> None:
    make(host)


@given(st.text())
@example("a..b")
@example("::1")
@example("b\u00fccher.example")
@example("\u2024.")
@example("a" * 300)
async def test_what_passes_is_never_a_surprise_to_the_resolver(name: str) -> None:
    with suppress(ValueError):
        check_host(name)
        with suppress(OSError):
            await _resolve(name)


async def _resolve(name: str) -> None:
    try:
        await trio.socket.getaddrinfo(name, 1, flags=socket.AI_NUMERICHOST)
        socket.getaddrinfo(name, 1, flags=socket.AI_NUMERICHOST)
    except ValueError as error:
        raise AssertionError(f"{name!r} was accepted") from error
