"""A user's program for either Python client: `python session.py AREA [ARGUMENT...]`.

Runs against $JUMPSTARTER_HOST with the client that is installed and prints what it found as JSON. It stands
for the tests that labs already have: written for 0.9.0, it runs with ours, and nothing in it knows which
exporter is at the other end.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

try:
    from jumpstarter_client import env
    from jumpstarter_client.adapters import TcpPortforwardAdapter, UnixPortforwardAdapter
except ImportError:
    from jumpstarter.utils.env import env
    from jumpstarter_driver_network.adapters import TcpPortforwardAdapter, UnixPortforwardAdapter

MIB = 1 << 20


def tree(client: Any) -> dict[str, Any]:
    def describe(node: Any) -> dict[str, Any]:
        return {
            "class": type(node).__name__,
            "labels": dict(node.labels),
            "children": {name: describe(child) for name, child in node.children.items()},
        }

    return describe(client) | {"shared": client.power.uuid == client.board.supply.uuid}


def power(client: Any) -> list[list[float]]:
    client.power.on()
    client.board.supply.off()
    client.power.cycle(wait=0)
    return [[reading.voltage, reading.current, reading.apparent_power] for reading in client.power.read()]


def errors(client: Any) -> dict[str, list[str] | None]:
    def name_of(action: Callable[[], object]) -> list[str] | None:
        try:
            action()
        except Exception as error:
            return [
                cls.__name__ for cls in type(error).__mro__ if cls not in (Exception, BaseException, object)
            ]
        return None

    return {
        "unknown method": name_of(lambda: client.power.call("no_such_method")),
        "not exported": name_of(lambda: client.power.call("close")),
        "wrong kind": name_of(lambda: client.power.call("read")),
        "unknown streaming method": name_of(lambda: list(client.power.streamingcall("no_such_method"))),
        "wrong argument": name_of(lambda: client.serial.call("set_dtr", {"not": "a bool"}, 1, 2, 3)),
        "dead service": name_of(lambda: receive_all(client.dead)),
        "still works": name_of(client.power.on),
    }


def receive_all(node: Any) -> bytes:
    with node.stream() as stream:
        received: bytes = stream.receive()
        return received


def serial(client: Any) -> dict[str, str]:
    with client.serial.pexpect() as console:
        console.sendline("login: root")
        console.expect("LOGIN: ROOT", timeout=10)
        console.send("x" * 5000)
        console.expect("X{5000}", timeout=10)
    with client.board.loop.stream() as stream:
        stream.send(b"loop")
        looped = stream.receive()
    client.serial.close()
    return {"looped": looped.decode()}


def network(client: Any) -> dict[str, Any]:
    payload = os.urandom(4 * MIB)
    answers = {}
    with TcpPortforwardAdapter(client=client.tcp) as address:
        answers["forward tcp"] = exchange(socket.create_connection(address), payload) == payload
        answers["forward again"] = exchange(socket.create_connection(address), payload[:10]) == payload[:10]
    with UnixPortforwardAdapter(client=client.tcp) as path:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        answers["forward unix"] = exchange(connection, payload) == payload
    with client.echo.stream() as stream:
        chunk = payload[:65536]
        stream.send(chunk)
        answers["echo"] = read_exactly(stream, len(chunk)) == chunk
    answers["address"] = client.tcp.address()
    return answers


def exchange(connection: socket.socket, payload: bytes) -> bytes:
    """Send everything, hang up, and read until the other side has hung up too."""
    with connection:
        received = bytearray()

        def read() -> None:
            while data := connection.recv(65536):
                received.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)
        reader.join(60)
    return bytes(received)


def read_exactly(stream: Any, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += stream.receive()
    return bytes(received)


def storage(client: Any, image: str, out: str, compression: str) -> dict[str, str]:
    """Flash an image that is stored with `compression`, and dump it back in the same format."""
    dumps = {}
    for name in ("flasher", "storage"):
        node = getattr(client, name)
        node.flash(image, compression=compression or None)
        dumps[name] = f"{out}.{name}"
        node.dump(dumps[name], compression=compression or None)
    client.storage.off()
    return dumps


def logs(client: Any) -> list[str] | None:
    """The entry that a power driver wrote: 0.9.0's client hands it to a logger, ours prints it to stderr."""
    seen: queue.Queue[list[str]] = queue.Queue()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # An exporter of 0.9 may also tell what a test before this one has done.
            if record.name == "exporter:driver" and "power on" in record.getMessage():
                seen.put([record.levelname, record.getMessage()])

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "power on" in text:
                seen.put(text.split(maxsplit=1))
            return len(text)

    logging.getLogger().addHandler(Collector())
    logging.getLogger().setLevel(logging.DEBUG)
    with contextlib.redirect_stderr(Screen()), client.log_stream():
        # The stream opens in the background and what came before may be lost, so call until it shows.
        for _ in range(100):
            client.power.on()
            with contextlib.suppress(queue.Empty):
                return seen.get(timeout=0.1)
    return None


def portal(client: Any) -> Any:
    """What runs the client's coroutines: the one thing that has another name in ours."""
    return client.bridge if hasattr(client, "bridge") else client.portal


def status(client: Any) -> str:
    return str(portal(client).call(client.get_status_async))


def end_session(client: Any) -> bool:
    return bool(portal(client).call(client.end_session_async))


def switch(client: Any, device: str, state: str) -> None:
    getattr(getattr(client, device), state)()


def readings(client: Any, device: str) -> list[list[float]]:
    return [[reading.voltage, reading.current] for reading in getattr(client, device).read()]


def picture(client: Any, device: str) -> dict[str, Any]:
    camera = getattr(client, device)
    image, state = camera.snapshot(), camera.state()
    return {
        "format": image.format,
        "size": image.size,
        "pixel": image.convert("RGB").getpixel((300, 200)),
        "ok": state.ok,
        "online": state.result.source.online,
        "width": state.result.source.resolution.width,
    }


def main(area: str, *arguments: str) -> None:
    with env() as client:
        # 0.9.0's client logs to stdout; the answer is the last line.
        print("\n" + json.dumps(globals()[area](client, *arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
