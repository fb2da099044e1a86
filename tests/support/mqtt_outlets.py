"""Debian's mosquitto on loopback, and a Tasmota that is its client: what it says is as its documentation has it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

__all__ = ["Tasmota", "mosquitto", "tasmota"]

USER, PASSWORD = "lab", "br0ker-s3cret"


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip("missing: mosquitto; apt install mosquitto")
    return found


@contextmanager
def mosquitto(folder: Path, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[int]:
    """A broker for a block, which lets one user in; its port."""
    program = _program("mosquitto")
    passwords = folder / "passwords"
    subprocess.run([_program("mosquitto_passwd"), "-b", "-c", passwords, USER, PASSWORD], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {passwords}",
        "persistence false",
    ]
    lines += [f"certfile {certificate}", f"keyfile {key}"] if certificate else []
    if os.geteuid() == 0:
        lines.append("user root")
    config = folder / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n")
    with subprocess.Popen([program, "-c", config, "-v"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " running" in line:
                break
        drain = threading.Thread(target=process.stderr.read)  # else it would stop at a full pipe
        drain.start()
        try:
            yield port
        finally:
            process.terminate()
            process.wait(10)
            drain.join()


class Tasmota:
    """A device with relays, of which the first one's meter measures."""

    def __init__(self, port: int, topic: str, relays: int) -> None:
        self.is_on = dict.fromkeys(range(1, relays + 1), False)
        self.is_stuck = self.is_silent = False
        self.heard: list[tuple[str, str]] = []
        self._topic = topic
        self._subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=topic)
        self.client.username_pw_set(USER, PASSWORD)
        self.client.will_set(f"tele/{topic}/LWT", "Offline", qos=1, retain=True)
        self.client.on_connect = lambda client, *_: client.subscribe(f"cmnd/{topic}/#")
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(30)
        self.client.publish(f"tele/{topic}/LWT", "Online", qos=1, retain=True).wait_for_publish(30)

    def _on_message(self, client: Client, data: object, message: Any) -> None:
        command, text = message.topic.rpartition("/")[2].upper(), message.payload.decode().upper()
        self.heard.append((command, text))
        if self.is_silent:
            return
        if command == "STATUS" and text == "10":
            energy = {
                "Total": 3.185,
                "Power": 24,
                "ApparentPower": 30,
                "Factor": 0.8,
                "Voltage": 230,
                "Current": 0.13,
            }
            self._say("STATUS10", {"StatusSNS": {"Time": "2026-11-30T07:00:00", "ENERGY": energy}})
            return
        number = int(command.removeprefix("POWER") or 1) if command.startswith("POWER") else 0
        if number not in self.is_on:
            self._say("RESULT", {"Command": "Unknown"})
            return
        if text in ("ON", "OFF") and not self.is_stuck:
            self.is_on[number] = text == "ON"
        name = f"POWER{number}" if len(self.is_on) > 1 else "POWER"
        state = "ON" if self.is_on[number] else "OFF"
        self._say("RESULT", {name: state})
        client.publish(f"stat/{self._topic}/{name}", state)

    def _say(self, what: str, data: dict[str, Any]) -> None:
        self.client.publish(f"stat/{self._topic}/{what}", json.dumps(data))


@contextmanager
def tasmota(port: int, topic: str = "tasmota_3F2A10", relays: int = 1) -> Iterator[Tasmota]:
    """A device for a block; it leaves as one that is unplugged does."""
    device = Tasmota(port, topic, relays)
    try:
        yield device
    finally:
        connection = device.client.socket()
        device.client.loop_stop()
        if connection is not None:
            connection.close()
        del device.client  # which closes its other sockets, whoever still holds the device
