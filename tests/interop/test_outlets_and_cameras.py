"""Outlets and cameras by the drivers of Jumpstarter 0.9.0 and ours: one file, the same counterparts, either client.

The counterparts are Debian's mosquitto and snmpd, a web server and ustreamer on a scripted camera.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from tests.interop import exporters
from tests.interop.user import LIMIT, User
from tests.support import mqtt_outlets, snmp_outlets
from tests.support.fake_camera import FakeCamera, require_ustreamer
from tests.support.mqtt_outlets import Tasmota
from tests.support.peers import Environment
from tests.support.snmp_outlets import Agent
from tests.support.web_outlets import Asked, Reply, WebOutlets, serve_outlets

TOPIC = "tasmota_3F2A10"
PDU = "1.3.6.1.4.1.13742.6.4.1.2.1"
"""The outlets of a Raritan PX2, which is the default of 0.9.0's driver: 2.1.N switches, 3.1.N is the state."""
RED = (254, 0, 0)


def plug(device: WebOutlets, asked: Asked) -> Reply:
    """An outlet with URLs of its own."""
    if asked.path in ("/on", "/off"):
        device.switch(1, on=asked.path == "/on")
        return Reply("done", kind="text/plain")
    return Reply(json.dumps({"emeter": {"voltage": 230.5, "current": 0.5}}))


class Counterparts(NamedTuple):
    """What the exporters drive."""

    tasmota: Tasmota
    agent: Agent
    plug: WebOutlets
    file: Path


@pytest.fixture(scope="module")
def counterparts(home: Path) -> Iterator[Counterparts]:
    require_ustreamer()
    (home / "camera").mkdir()
    camera = FakeCamera(home / "camera")
    Image.new("RGB", (640, 480), "red").save(home / "red.jpg", quality=95)
    camera.show((home / "red.jpg").read_bytes())
    with ExitStack() as stack:
        broker = stack.enter_context(mqtt_outlets.mosquitto(home))
        tasmota = stack.enter_context(mqtt_outlets.tasmota(broker, TOPIC))
        agent = stack.enter_context(snmp_outlets.snmpd(home))
        web = stack.enter_context(serve_outlets(plug, outlets=1, first=1, login="", user="", password=""))
        export = {
            "tasmota": {
                "type": "jumpstarter_driver_tasmota.driver.TasmotaPower",
                "config": {
                    "host": "127.0.0.1",
                    "port": broker,
                    "tls": False,
                    "username": mqtt_outlets.USER,
                    "password": mqtt_outlets.PASSWORD,
                    "cmnd_topic": f"cmnd/{TOPIC}/POWER",
                    "stat_topic": f"stat/{TOPIC}/POWER",
                },
            },
            "pdu": {
                "type": "jumpstarter_driver_snmp.driver.SNMPServer",
                "config": {
                    "host": "127.0.0.1",
                    "port": agent.port,
                    "user": "sha",
                    "plug": 3,
                    "auth_protocol": "SHA",
                    "auth_key": snmp_outlets.AUTH,
                    "priv_protocol": "AES",
                    "priv_key": snmp_outlets.PRIV,
                },
            },
            "plug": {
                "type": "jumpstarter_driver_http_power.driver.HttpPower",
                "config": {
                    "name": "plug",
                    "power_on": {"url": f"http://{web.address}/on"},
                    "power_off": {"url": f"http://{web.address}/off", "method": "POST", "data": "x=1"},
                    "power_read": {
                        "url": f"http://{web.address}/state",
                        "voltage_path": "emeter.voltage",
                        "current_path": "emeter.current",
                    },
                },
            },
            "camera": {
                "type": "jumpstarter_driver_ustreamer.driver.UStreamer",
                "config": {
                    "executable": str(camera.program),
                    "args": {"device": str(camera.node), "format": "MJPEG", "encoder": "HW"},
                },
            },
        }
        file = home / "outlets.yaml"
        kind = {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "ExporterConfig"}
        metadata = {"namespace": "default", "name": "outlets"}
        file.write_text(
            json.dumps({**kind, "metadata": metadata, "endpoint": "", "token": "", "export": export})
        )
        yield Counterparts(tasmota, agent, web, file)


@pytest.fixture(scope="module", params=["their exporter", "our exporter"])
def exporter(
    request: pytest.FixtureRequest, upstream: Environment, counterparts: Counterparts, home: Path
) -> Iterator[exporters.Exporter]:
    if request.param == "their exporter":
        started = exporters.their_unix(upstream, counterparts.file, home)
    else:
        started = exporters.our_unix(counterparts.file, home)
    with started as running:
        yield running


@pytest.fixture(params=["their client", "our client"])
def user(
    request: pytest.FixtureRequest, upstream: Environment, exporter: exporters.Exporter, home: Path
) -> User:
    if request.param == "their client":
        return User(upstream.bin, exporter, home, {"JMP_DRIVERS_ALLOW": "UNSAFE"})
    return User(exporters.scripts(), exporter, home)


def until(is_so: Callable[[], bool]) -> None:
    """0.9.0 does not wait for an outlet's reply to have been acted upon."""
    end = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_an_outlet_by_mqtt(user: User, counterparts: Counterparts) -> None:
    for state in ("on", "off", "on"):
        user.program("switch", "tasmota", state)
        until(lambda: counterparts.tasmota.is_on[1] == (state == "on"))  # noqa: B023 - read at once


def test_an_outlet_by_snmp(user: User, counterparts: Counterparts) -> None:
    switches, state = f"{PDU}.2.1.3", f"{PDU}.3.1.3"
    counterparts.agent.reset({state: 8}, {switches: {"1": {state: 7}, "0": {state: 8}}})
    user.program("switch", "pdu", "on")
    user.program("switch", "pdu", "off")
    assert counterparts.agent.written == [(switches, 1), (switches, 0)]


def test_an_outlet_with_urls_of_its_own(user: User, counterparts: Counterparts) -> None:
    for state in ("on", "off"):
        user.program("switch", "plug", state)
        assert counterparts.plug.is_on[1] == (state == "on")
    assert counterparts.plug.asked[-1].body == "x=1"
    assert user.program("readings", "plug") == [[230.5, 0.5]]


def test_a_camera(user: User) -> None:
    def shown() -> dict[str, Any]:
        found: dict[str, Any] = user.program("picture", "camera")
        return found

    end = time.monotonic() + LIMIT
    while not (seen := shown())["online"]:  # 0.9.0 shows ustreamer's own picture until the camera is open
        assert time.monotonic() < end, seen
    assert (seen["format"], seen["size"], seen["ok"], seen["width"]) == ("JPEG", [640, 480], True, 640)
    assert all(abs(part - red) <= 2 for part, red in zip(seen["pixel"], RED, strict=True)), seen
