"""Driver packages of Jumpstarter 0.9 from PyPI, as they are, on a board that is leased by controller and router."""

from __future__ import annotations

import json
import os

import pytest

from tests.interop import exporters
from tests.interop.lab import Lab, Person

CONFIG = """\
export:
  shell:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      methods:
        say: echo "$1 $WHO"
        fail: {command: exit 3, description: ends with 3}
  board:
    children:
      http:
        type: jumpstarter_driver_http.driver.HttpServer
        config: {root_dir: @HOME@/www, host: 127.0.0.1, port: @HTTP@}
      tftp:
        type: jumpstarter_driver_tftp.driver.Tftp
        config: {root_dir: @HOME@/tftp, host: 127.0.0.1, port: @TFTP@}
      can: {type: jumpstarter_driver_can.driver.Can, config: {channel: lab, interface: virtual}}
      ecu: {type: jumpstarter_driver_can.driver.Can, config: {channel: lab, interface: virtual}}
  power: {type: jumpstarter_driver_power.driver.MockPower}
"""

THEIR_PROGRAM = """
import can, json, sys, urllib.request
from jumpstarter.utils.env import env
with env() as client:
    board = client.board
    board.can.send(can.Message(arbitration_id=291, data=b"\\x01\\x02"))
    message = board.ecu.recv(timeout=10)
    found = {"can": [message.arbitration_id, list(message.data)]}
    with open("page.txt", "w") as file:
        file.write("hello " * 100_000)
    board.http.start()
    url = board.http.put_file("page.txt", "page.txt")
    found["http"] = len(urllib.request.urlopen(url).read())
    board.http.stop()
    board.tftp.start()
    board.tftp.storage.write_bytes("boot.bin", b"kernel" * 1000)
    found["tftp"] = [board.tftp.get_port(), board.tftp.storage.read_bytes("boot.bin") == b"kernel" * 1000]
    board.tftp.stop()
    found["shell"] = [client.shell.say("hi", WHO="bob"), client.shell.fail()]
    client.power.on()
    found["classes"] = {name: type(one).__name__ for name, one in {**client.children, **board.children}.items()}
    print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return exporters.free_port(), exporters.free_port()


@pytest.fixture(scope="module")
def ann(lab: Lab, ports: tuple[int, int]) -> Person:
    text = CONFIG.replace("@HOME@", str(lab.home))
    text = text.replace("@HTTP@", str(ports[0])).replace("@TFTP@", str(ports[1]))
    # Found by itself: beside the command `jmp`.
    path = f"{lab.upstream.bin}:{os.environ['PATH']}"
    lab.exporter("one", ours=True, export=text, environment={"PATH": path})
    return lab.person("ann")


def test_the_client_of_0_9_uses_them(ann: Person, ports: tuple[int, int]) -> None:
    program = ann.home / "program.py"
    program.write_text(THEIR_PROGRAM)
    done = ann.jmp("shell", "-l", "board=rpi4", inside=("env", "JMP_DRIVERS_ALLOW=UNSAFE", "python", program))
    assert "hi bob" in done.stdout
    [found] = [line for line in done.stdout.splitlines() if line.startswith('{"can"')]
    assert json.loads(found) == {
        "can": [291, [1, 2]],
        "http": 600_000,
        "tftp": [ports[1], True],
        "shell": [0, 3],
        "classes": {
            "shell": "ShellClient",
            "board": "CompositeClient",
            "power": "PowerClient",
            "http": "HttpServerClient",
            "tftp": "TftpServerClient",
            "can": "CanClient",
            "ecu": "CanClient",
        },
    }


MESSAGE = {
    "timestamp": 0,
    "arbitration_id": 5,
    "data": "AQI=",
    "dlc": 2,
    "channel": None,
    "is_rx": True,
    **dict.fromkeys(("is_extended_id", "is_remote_frame", "is_error_frame", "is_fd"), False),
    **dict.fromkeys(("bitrate_switch", "error_state_indicator"), False),
}
SCRIPT = """
set -e
jumpstarter devices -o name
jumpstarter call shell get_methods -o json
jumpstarter call shell call_method say '{"WHO": "ann"}' hi -o json
jumpstarter call can send '@MESSAGE@'
jumpstarter call board.ecu _recv_internal 10 -o json
jumpstarter call http start
jumpstarter call http get_url
jumpstarter power on
"""


def test_our_commands_use_them(ann: Person, ports: tuple[int, int]) -> None:
    script = ann.home / "script"
    script.write_text(SCRIPT.replace("@MESSAGE@", json.dumps(MESSAGE)))
    said = ann.ours("shell", "-l", "board=rpi4", inside=("sh", script)).stdout
    assert "board.tftp.storage\n" in said, "a part that its driver makes"
    assert '"say"' in said
    assert "hi ann" in said
    assert '"arbitration_id": 5' in said
    assert f"http://127.0.0.1:{ports[0]}" in said
