"""Outlets behind Debian's mosquitto, end to end: the client over gRPC on one side, a Tasmota on the other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trustme
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from jumpstarter_drivers.mqtt_power.driver import MqttOutlet, TasmotaPower
from jumpstarter_drivers.power.client import PowerClient, PowerReading
from jumpstarter_drivers.testing import serve, serve_async
from tests.support.mqtt_outlets import PASSWORD, USER, mosquitto, tasmota


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as found:
        yield found


def outlet(port: int, topic: str, **config: Any) -> MqttOutlet:
    values = {"device": "tasmota", "host": "127.0.0.1", "port": port, "username": USER, "password": PASSWORD}
    return MqttOutlet(**{**values, "topic": topic, "timeout": 6.0, **config})


@pytest.mark.parametrize(("relays", "number"), [(1, 1), (2, 1), (2, 2)])
def test_an_outlet_is_switched_and_asked(port: int, relays: int, number: int) -> None:
    topic = f"switched{relays}{number}"
    with tasmota(port, topic, relays) as device, serve(outlet(port, topic, outlet=number)) as client:
        client.on()
        assert device.is_on == {n: n == number for n in device.is_on}
        assert device.heard == [(f"POWER{number}", "ON"), (f"POWER{number}", "")]
        client.off()
        assert not any(device.is_on.values())
        assert list(client.read()) == [PowerReading(230.0, 0.13, 24.0, 3185.0)]


def test_a_device_that_lies_is_found_out(port: int) -> None:
    with tasmota(port, "liar") as device, serve(outlet(port, "liar", timeout=2.0)) as client:
        device.is_stuck = True
        with pytest.raises(
            DriverError, match="outlet 1 of the Tasmota liar says that it is off, 2 s after the command"
        ):
            client.on()


def test_a_device_that_was_unplugged_is_known_to_be(port: int) -> None:
    with tasmota(port, "unplugged"):
        pass
    heard: list[str] = []
    with listener(port, "cmnd/unplugged/#", heard), serve(outlet(port, "unplugged", timeout=2.0)) as client:
        with pytest.raises(
            DriverError, match="the broker says that it is offline; see whether it has power and a network"
        ):
            client.on()
        with tasmota(port, "unplugged") as device:
            client.on()
            assert device.is_on[1]
    assert heard == ["ON", ""]  # of the time when it was there


def test_a_device_that_is_silent_or_unknown_is_one_sentence(port: int) -> None:
    with serve(outlet(port, "nobody", timeout=1.0)) as client:
        with pytest.raises(
            DriverError, match=r"it does not say anything on stat/nobody/RESULT; check its topic"
        ):
            client.on()
        with pytest.raises(
            DriverError, match=r"was not read: it does not say anything on stat/nobody/STATUS10"
        ):
            list(client.read())


@contextmanager
def listener(port: int, topic: str, heard: list[str]) -> Iterator[Client]:
    """Somebody else who is connected to the broker."""
    client, is_subscribed = Client(CallbackAPIVersion.VERSION2), threading.Event()
    client.username_pw_set(USER, PASSWORD)
    client.on_message = lambda _client, _data, message: heard.append(message.payload.decode())
    client.on_subscribe = lambda *_: is_subscribed.set()
    client.connect("127.0.0.1", port)
    client.subscribe(topic)
    client.loop_start()
    assert is_subscribed.wait(30)
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def test_what_the_broker_kept_is_not_an_answer(port: int) -> None:
    kept = {"RESULT": '{"POWER":"ON"}', "STATUS10": '{"StatusSNS":{"ENERGY":{"Power":24}}}'}
    with listener(port, "none", []) as keeper:
        for topic, text in kept.items():
            keeper.publish(f"stat/kept/{topic}", text, qos=1, retain=True).wait_for_publish(30)
    with serve(outlet(port, "kept", timeout=1.0)) as client:
        with pytest.raises(DriverError, match="does not say anything"):
            client.on()
        with pytest.raises(DriverError, match="does not say anything on stat/kept/STATUS10"):
            list(client.read())


def test_a_handshake_without_end_is_cut() -> None:
    """Each byte comes before the next one is given up."""

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)

    def serve_all(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                drip(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve_all, args=(server,))
        serving.start()
        try:
            with (
                serve(outlet(server.getsockname()[1], "any", timeout=1.0, transport="websockets")) as client,
                pytest.raises(
                    DriverError, match=r"the broker 127.0.0.1:\d+ does not answer in time; check it"
                ),
            ):
                client.on()
        finally:
            server.shutdown(socket.SHUT_RDWR)
            serving.join(30)


def test_a_wrong_password_is_one_sentence_without_it(port: int, caplog: pytest.LogCaptureFixture) -> None:
    driver = outlet(port, "any", password="h7-wr0ng")
    complaint = r"does not accept the user and the password .*; correct them"
    with serve(driver) as client, pytest.raises(DriverError, match=complaint) as caught:
        client.on()
    assert "h7-wr0ng" not in f"{caught.value} {caplog.text} {driver!r}"


def test_no_broker_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    complaint = r"the broker 127.0.0.1:\d+ cannot be reached \(Connection refused\)"
    with serve(outlet(closed, "any", timeout=0.5)) as client, pytest.raises(DriverError, match=complaint):
        client.on()


def test_what_is_not_a_broker_is_one_sentence() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        serve(outlet(silent.getsockname()[1], "any", timeout=1.0)) as client,
        pytest.raises(DriverError, match=r"the broker 127.0.0.1:\d+ does not answer within 0.5 s"),
    ):
        client.on()


def test_a_broker_with_tls_is_trusted_by_its_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "broker.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with mosquitto(tmp_path, certificate=tmp_path / "broker.pem", key=tmp_path / "broker.pem") as port:
        config: dict[str, Any] = {"tls": True, "timeout": 4.0}
        with (
            serve(outlet(port, "any", ca=str(tmp_path / "ca.pem"), **config)) as client,
            pytest.raises(DriverError, match="does not say anything"),
        ):
            client.on()
        with (
            serve(outlet(port, "any", **config)) as client,
            pytest.raises(DriverError, match=r"is not trusted .*`ca`"),
        ):
            client.on()


LONG = b"\x30\xff\xff\xff\x7f\0\1a"
"""The beginning of a message of 256 MiB."""
UNFINISHED = b"".join(
    b"\x34" + b"\x85\x80\x04" + b"\0\1a" + mid.to_bytes(2, "big") + bytes(65536) for mid in range(1, 40)
)
"""Messages that are delivered when the broker releases them, which it does not."""


@pytest.mark.parametrize("sent", [LONG + bytes(1 << 22), UNFINISHED])
def test_what_a_broker_sends_is_bounded(sent: bytes) -> None:
    with (
        hostile_broker(sent) as port,
        serve(outlet(port, "any", timeout=20.0)) as client,
        pytest.raises(
            DriverError, match=r"the broker 127.0.0.1:\d+ sends more than 1024 KiB at a time; check"
        ),
    ):
        client.status()


def test_a_message_whose_topic_is_not_text_is_skipped() -> None:
    with (
        hostile_broker(b"\x30\x05\0\2\xff\xfex") as port,
        serve(outlet(port, "any", timeout=2.0)) as client,
        pytest.raises(DriverError, match=r"does not say anything on stat/any/RESULT"),
    ):
        client.status()


@contextmanager
def hostile_broker(sent: bytes) -> Iterator[int]:
    """It accepts a connection, sends this, and then nothing more."""
    is_over = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"\x20\2\0\0" + sent)
            while not is_over.is_set() and connection.recv(4096):
                pass

    def run(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                talking.append(threading.Thread(target=talk, args=(connection,)))
                talking[-1].start()

    talking: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=run, args=(server,))
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            is_over.set()
            server.shutdown(socket.SHUT_RDWR)
            for one in (accepting, *talking):
                one.join(30)


async def test_a_user_who_leaves_ends_the_question(port: int) -> None:
    with tasmota(port, "slow") as device:
        async with serve_async(outlet(port, "slow", timeout=120.0)) as client:
            power = cast("PowerClient", client)
            device.is_silent = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(power.on.aio)
                with trio.fail_after(20):
                    while len(device.heard) < 2:
                        await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            device.is_silent = False
            with trio.fail_after(20):
                await power.on.aio()
        assert device.is_on[1]


def test_tasmota_of_0_9_has_its_own_keys(port: int) -> None:
    with tasmota(port, "old") as device:
        power = TasmotaPower(
            host="127.0.0.1",
            port=port,
            tls=False,
            username=USER,
            password=PASSWORD,
            cmnd_topic="cmnd/old/POWER",
            stat_topic="stat/old/POWER",
        )
        with serve(power) as client:
            client.on()
            assert device.is_on == {1: True}
            client.off()
            assert device.is_on == {1: False}
            client.on()
            with pytest.raises(DriverMethodNotImplemented, match="has no topic with measurements"):
                list(client.read())
        assert device.is_on[1]  # closing switches nothing


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"device": "tasmoto"}, "device is 'tasmoto'; did you mean 'tasmota'"),
        ({"topic": "a/#"}, "topic takes the device's own topic"),
        ({"host": "mqtt://broker"}, "host is invalid: it takes a host name or an IP address, .* another key"),
        ({"host": "", "transport": "unix"}, "host takes the path of the broker's socket"),
        ({"outlet": 0}, "outlet is 0; the Tasmota counts its outlets from 1"),
        ({"password_file": "x"}, "both password and password_file"),
        ({"outlet": -1}, "outlet is -1"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        outlet(1883, **{"topic": "t", **config})


@pytest.mark.parametrize("topic", ["", "cmnd/#", "cmnd/+/POWER", "a\0", "x" * 1025])
def test_topics_of_tasmota_of_0_9_are_those_of_one_device(topic: str) -> None:
    with pytest.raises(ValueError, match="cmnd_topic takes the device's own topic"):
        TasmotaPower(host="broker.lab", cmnd_topic=topic, stat_topic="s")
    with pytest.raises(ValueError, match="stat_topic takes the device's own topic"):
        TasmotaPower(host="broker.lab", cmnd_topic="c", stat_topic=topic)


def test_the_port_of_tasmota_of_0_9_is_that_of_0_9() -> None:
    assert TasmotaPower(host="broker.lab", cmnd_topic="c", stat_topic="s").port == 1883


def test_topics_are_those_of_the_firmware() -> None:
    row = outlet(1883, "dev", full_topic="lab/%topic%/%prefix%/").row
    assert (row.command, row.state, row.availability) == (
        "lab/dev/cmnd/POWER1",
        "lab/dev/stat/RESULT",
        "lab/dev/tele/LWT",
    )
    row = outlet(1883, "plug", device="shelly").row
    assert (row.command, row.state) == ("plug/command/switch:0", "plug/status/switch:0")
