"""Outlets behind an MQTT broker. `MqttOutlet` knows firmwares by rows of `device_table`; `TasmotaPower` is 0.9's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from string import Template
from typing import ClassVar, Literal, TypeVar

import trio
from jumpstarter_proto.texts import shown
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_drivers.host_names import check_host
from jumpstarter_drivers.mqtt_power.broker import Broker, BrokerConnection, MqttMessage, visit
from jumpstarter_drivers.mqtt_power.device_table import DEVICES, MqttDevice
from jumpstarter_drivers.power.answers import Measure, find_measures, find_text
from jumpstarter_drivers.power.device_access import DeviceTrust, read_password
from jumpstarter_drivers.power.outlet import OutletRefused, OutletUnreachable, RemoteOutlet
from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["MqttOutlet", "TasmotaPower"]

T = TypeVar("T")

MAX_TOPIC_LENGTH = 1024
_ON = frozenset({"on", "true", "1"})
_OFF = frozenset({"off", "false", "0"})


@dataclass(kw_only=True, eq=False)
class _BrokeredOutlet(RemoteOutlet):
    """Common part of outlets behind a broker."""

    packages: ClassVar[tuple[str, ...]] = ("paho",)

    host: str
    """Host name or address of the broker."""
    port: int | None = None
    tls: bool = False
    ca: str | None = None
    """A file with the broker's certificate, or its authority."""
    insecure_tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    client_id: str | None = None
    transport: Literal["tcp", "websockets", "unix"] = "tcp"

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.password is not None and self.password_file is not None:
            raise ValueError("there are both password and password_file; leave one out")
        if self.transport == "unix":
            if not self.host or not self.host.isprintable():
                raise ValueError("with `transport: unix` host takes the path of the broker's socket")
            return
        try:
            check_host(self.host)
        except ValueError as error:
            raise ValueError(f"host is invalid: {error}; the port is another key") from None

    @property
    @abstractmethod
    def row(self) -> MqttDevice:
        """The kind of outlet, with its topics filled in."""

    async def open(self) -> None:
        """Read the password; the broker is asked when the outlet is used."""
        self._broker = await self.in_thread(self._make_broker)

    def _make_broker(self) -> Broker:
        password = read_password(self.password, self.password_file)
        try:
            tls = DeviceTrust(self.ca, self.insecure_tls).context() if self.tls else None
        except OSError as error:
            raise OutletRefused(f"the certificates in {self.ca} cannot be read: {error.strerror}") from None
        port = self.port or (8883 if self.tls else 1883)
        return Broker(self.host, port, tls, self.username, password, self.client_id or "", self.transport)

    async def send(self, *, on: bool) -> None:
        """Publish the command."""
        async with visit(self._broker, self.in_thread, self.attempt_seconds) as broker:
            with self._time_limit(f"take the command; check whether the broker {self._broker} is overloaded"):
                if self.row.availability:
                    await self._check_online(broker)
                await broker.publish(self.row.command, self.row.values[0 if on else 1])

    async def is_on(self) -> bool | None:
        """Publish the query and wait for the state."""
        row = self.row

        def said(message: MqttMessage) -> str | None:
            if message.is_retained and row.query is not None:
                return None  # of before the question
            return message.text.strip().lower() if not row.state_at else find_text(message.text, row.state_at)

        state = await self._ask(row.state, row.query, said)
        return True if state in _ON else False if state in _OFF else None

    async def reading(self) -> PowerReading:
        """Publish the query and wait for the measurements."""
        row = self.row
        if not row.meter:
            raise NotImplementedError(
                f"{self.label} has no topic with measurements; use a device with a meter"
            )

        def measured(message: MqttMessage) -> str | None:
            if message.is_retained and row.meter_query is not None:
                return None  # of before the question
            return message.text

        text = await self._ask(row.meter, row.meter_query, measured)
        if (reading := find_measures(text, row.measures)) is None:
            raise NotImplementedError(f"{self.label} measures nothing; use a device with a meter")
        return reading

    async def _ask(
        self, topic: str, query: tuple[str, str] | None, take: Callable[[MqttMessage], T | None]
    ) -> T:
        row = self.row
        async with visit(self._broker, self.in_thread, self.attempt_seconds) as broker:
            with self._time_limit(
                f"say anything on {shown(topic)}; check its topic, and whether it is connected"
            ):
                await broker.subscribe(*filter(None, (topic, row.availability)))
                if query is not None:
                    await broker.publish(*query)
                async for message in broker.messages:
                    if row.availability and message.topic == row.availability:
                        self._check_availability(message)
                    elif message.topic == topic and (found := take(message)) is not None:
                        return found
        raise OutletUnreachable(f"the broker {self._broker} went away; check it")

    async def _check_online(self, broker: BrokerConnection) -> None:
        """Raise OutletUnreachable if the broker keeps the device's last will: it would not hear the command."""
        await broker.subscribe(self.row.availability)
        await broker.subscribe(self.row.state)  # acknowledged behind what the broker has kept of the first
        for message in broker.received():
            if message.topic == self.row.availability:
                self._check_availability(message)

    def _check_availability(self, message: MqttMessage) -> None:
        row = self.row
        said = find_text(message.text, row.offline_at) if row.offline_at else None
        if (said or message.text.strip().lower()) == row.offline:
            raise OutletUnreachable(
                "the broker says that it is offline; see whether it has power and a network"
            )

    @contextmanager
    def _time_limit(self, what: str) -> Iterator[None]:
        try:
            with trio.fail_after(self.attempt_seconds):
                yield
        except trio.TooSlowError:
            raise OutletUnreachable(f"it does not {what}") from None


@dataclass(kw_only=True, eq=False)
class MqttOutlet(_BrokeredOutlet):
    """An outlet with a firmware that is known.

        export:
          power:
            type: mqtt_power.MqttOutlet
            config:
              device: tasmota          # README.md lists them
              host: broker.lab
              topic: tasmota_3F2A10
              outlet: 1

    Opening and closing it switch nothing.
    """

    device: str
    topic: str
    outlet: int | None = None
    full_topic: str = "%prefix%/%topic%/"
    """Tasmota's FullTopic, where it is another one."""

    def __post_init__(self) -> None:
        """Find the row, and fill its topics in."""
        super().__post_init__()
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; {nearest(self.device, DEVICES)}")
        _check_topic("topic", self.topic)
        row = DEVICES[self.device]
        number = row.first if self.outlet is None else self.outlet
        if number < row.first:
            raise ValueError(f"outlet is {number}; the {row.label} counts its outlets from {row.first}")
        self._number = number
        prefixes = {
            name: self.full_topic.replace("%prefix%", name).replace("%topic%", self.topic).rstrip("/") + "/"
            for name in ("cmnd", "stat", "tele")
        }
        names = {**prefixes, "topic": self.topic, "outlet": str(number), "index": str(max(number - 1, 0))}

        def filled(template: str) -> str:
            return Template(template).substitute(names)

        state_at = filled(row.state_at)
        if row.state_at_first and number == row.first:
            state_at = f"{state_at}|{row.state_at_first}"
        self._row = replace(
            row,
            command=filled(row.command),
            state=filled(row.state),
            state_at=state_at,
            query=row.query and (filled(row.query[0]), row.query[1]),
            availability=filled(row.availability),
            meter=filled(row.meter),
            meter_query=row.meter_query and (filled(row.meter_query[0]), row.meter_query[1]),
            measures={name: Measure(filled(one.path), one.factor) for name, one in row.measures.items()},
        )

    @property
    def row(self) -> MqttDevice:
        """Return the row of the device."""
        return self._row

    @property
    def label(self) -> str:
        """Outlet, firmware and topic."""
        return f"outlet {self._number} of the {self._row.label} {shown(self.topic)}"

    def describe_hardware(self) -> str:
        """Return the label and the broker. Nothing is published."""
        return f"{self.label}, through the broker {self.host}"


@dataclass(kw_only=True, eq=False)
class TasmotaPower(_BrokeredOutlet):
    """A Tasmota with the keys of Jumpstarter 0.9, or any device with ON and OFF on two topics.

        export:
          power:
            type: mqtt_power.TasmotaPower
            config:
              host: broker.lab
              cmnd_topic: cmnd/tasmota_3F2A10/POWER
              stat_topic: stat/tasmota_3F2A10/POWER

    Opening and closing it switch nothing; 0.9 switches off when it closes.
    """

    port: int | None = 1883
    tls: bool = True
    timeout: float = 8.0
    cmnd_topic: str
    stat_topic: str

    def __post_init__(self) -> None:
        """Check the topics."""
        super().__post_init__()
        _check_topic("cmnd_topic", self.cmnd_topic)
        _check_topic("stat_topic", self.stat_topic)

    @property
    def row(self) -> MqttDevice:
        """Return a row made from the two topics."""
        return MqttDevice(
            "Tasmota",
            command=self.cmnd_topic,
            values=("ON", "OFF"),
            state=self.stat_topic,
            query=(self.cmnd_topic, ""),
        )

    @property
    def label(self) -> str:
        """The topic."""
        return f"the outlet of {shown(self.cmnd_topic)}"

    def describe_hardware(self) -> str:
        """Return the label and the broker."""
        return f"{self.label}, through the broker {self.host}"


def _check_topic(key: str, topic: str) -> None:
    """Raise ValueError if it is not the topic of one device."""
    if not topic or set("#+") & set(topic) or not topic.isprintable() or len(topic) > MAX_TOPIC_LENGTH:
        raise ValueError(f"{key} takes the device's own topic, without # and +")
