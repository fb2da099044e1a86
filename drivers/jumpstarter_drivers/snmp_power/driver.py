"""Outlets and PoE ports by SNMP. `SnmpOutlet` knows families by rows of `device_table`; `SNMPServer` is 0.9's."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from string import Template
from typing import ClassVar, Literal

from jumpstarter_proto.yaml_files import nearest

from jumpstarter_drivers.host_names import check_host
from jumpstarter_drivers.power.device_access import read_password
from jumpstarter_drivers.power.outlet import OutletRefused, RemoteOutlet
from jumpstarter_drivers.power.reading import PowerReading
from jumpstarter_drivers.snmp_power.agent import AuthProtocol, Community, PrivProtocol, SnmpAgent, User
from jumpstarter_drivers.snmp_power.device_table import DEVICES, Meter, SnmpDevice

__all__ = ["SNMPServer", "SnmpOutlet"]

_RARITAN = "1.3.6.1.4.1.13742.6.4.1.2.1.2.1"
MIN_KEY_LENGTH = 8
"""Of the keys of version 3, by RFC 3414."""
MAX_DIGITS = 9
"""Decimal digits of a measurement; an INTEGER has ten."""


@dataclass(kw_only=True, eq=False)
class _SnmpOutlet(RemoteOutlet):
    """What outlets that speak SNMP have in common."""

    packages: ClassVar[tuple[str, ...]] = ("snmp",)

    host: str
    port: int = 161
    auth_protocol: AuthProtocol = "NONE"
    auth_key: str | None = field(default=None, repr=False)
    auth_key_file: str | None = None
    priv_protocol: PrivProtocol = "NONE"
    priv_key: str | None = field(default=None, repr=False)
    priv_key_file: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        try:
            check_host(self.host)
        except ValueError as error:
            raise ValueError(f"host is invalid: {error}; the port is another key") from None
        if not 0 < self.port < 65536:
            raise ValueError(f"port is {self.port}; it takes 1 to 65535")
        for name in ("auth", "priv"):
            is_used = getattr(self, f"{name}_protocol") != "NONE"
            given = [key for key in (f"{name}_key", f"{name}_key_file") if getattr(self, key) is not None]
            if is_used and len(given) != 1:
                raise ValueError(f"{name}_protocol needs one of {name}_key and {name}_key_file")
            if (key := getattr(self, f"{name}_key")) is not None and len(key) < MIN_KEY_LENGTH:
                raise ValueError(
                    f"{name}_key has less than {MIN_KEY_LENGTH} characters; SNMP requires longer ones"
                )
        if self.priv_protocol != "NONE" and self.auth_protocol == "NONE":
            raise ValueError("priv_protocol needs an auth_protocol: SNMP encrypts for known users only")

    @property
    @abstractmethod
    def row(self) -> SnmpDevice:
        """The family, with its objects filled in."""

    @abstractmethod
    def asker(self) -> Community | User:
        """Return the credentials. Blocking: it may read files."""

    def make_user(self, name: str) -> User:
        """A user of version 3. Blocking."""
        keys = [
            read_password(key, file)
            for key, file in ((self.auth_key, self.auth_key_file), (self.priv_key, self.priv_key_file))
        ]
        for key, what in zip(keys, ("auth", "priv"), strict=True):
            if key is not None and len(key) < MIN_KEY_LENGTH:
                raise OutletRefused(
                    f"the {what} key has less than {MIN_KEY_LENGTH} characters; SNMP needs more"
                )
        auth_key = keys[0] if self.auth_protocol != "NONE" else None
        priv_key = keys[1] if self.priv_protocol != "NONE" else None
        return User(name, self.auth_protocol, auth_key, self.priv_protocol, priv_key)

    async def open(self) -> None:
        """Read the secrets; the agent is asked when the outlet is used."""
        self._agent = SnmpAgent(self.host, self.port, await self.in_thread(self.asker))

    async def send(self, *, on: bool) -> None:
        """Write the value."""
        row = self.row
        oid = row.control if isinstance(row.control, str) else row.control[0 if on else 1]
        await self.in_thread(self._write, oid, row.values[0 if on else 1])

    async def is_on(self) -> bool | None:
        """Read the state."""
        (state,) = await self._read([self.row.state])
        if state is None:
            raise OutletRefused(
                f"{self.host} has no object {self.row.state}; check `device`, `outlet` and `unit`"
            )
        return True if state in self.row.on else False if state in self.row.off else None

    async def reading(self) -> PowerReading:
        """Read the meter's objects."""
        meters = self.row.meters
        if not meters:
            raise NotImplementedError(
                f"the {self.row.label} has no meter for each outlet; use a device with one"
            )
        wanted: list[tuple[str, Meter]] = list(meters.items())
        values = await self._read([meter.oid for _, meter in wanted])
        scaled = [(index, meter.digits) for index, (_, meter) in enumerate(wanted) if meter.digits]
        digits = dict(zip((i for i, _ in scaled), await self._read([oid for _, oid in scaled]), strict=True))
        for count in digits.values():
            if (
                count is not None and not 0 <= count <= MAX_DIGITS
            ):  # ten to the power of it could take for ever
                raise OutletRefused(
                    f"{self.host} says that a measurement has {count} decimal digits; check `device`, or its firmware"
                )
        found = {
            name: round(value * meter.factor / 10 ** (digits.get(index) or 0), 6)
            for index, ((name, meter), value) in enumerate(zip(wanted, values, strict=True))
            if value is not None and value >= 0
        }
        if not found:
            raise NotImplementedError(f"{self.label} measures nothing; use a device with a meter")
        return PowerReading(**found, measured=tuple(name for name in ("voltage", "current") if name in found))

    async def _read(self, oids: list[str]) -> list[int | None]:
        return await self.in_thread(self._read_blocking, oids) if oids else []

    def _read_blocking(self, oids: list[str]) -> list[int | None]:
        return self._agent.read(oids, seconds=self.attempt_seconds)

    def _write(self, oid: str, value: int) -> None:
        self._agent.write(oid, value, seconds=self.attempt_seconds)


@dataclass(kw_only=True, eq=False)
class SnmpOutlet(_SnmpOutlet):
    """An outlet, or a PoE port, of a family that is known.

        export:
          power:
            type: snmp_power.SnmpOutlet
            config:
              device: apc-rpdu2            # README.md lists them
              host: pdu.lab
              outlet: 7
              community_file: /etc/jumpstarter/pdu.community

    Opening and closing it switch nothing.
    """

    device: str
    outlet: int
    unit: int | None = None
    version: Literal["2c", "3"] = "2c"
    community: str | None = field(default=None, repr=False)
    community_file: str | None = None
    user_name: str | None = None

    def __post_init__(self) -> None:
        """Find the row, and fill its objects in."""
        super().__post_init__()
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; {nearest(self.device, DEVICES)}")
        if self.version == "3" and not self.user_name:
            raise ValueError("version 3 needs a user_name")
        if self.version == "2c" and (self.community is None) is (self.community_file is None):
            raise ValueError(
                "version 2c needs one of community and community_file; many devices know the word private"
            )
        row = DEVICES[self.device]
        if self.outlet < 0 or (self.unit or 0) < 0:
            raise ValueError("outlet and unit take numbers, 0 or more")
        names = {"outlet": str(self.outlet), "unit": str(row.unit if self.unit is None else self.unit)}

        def filled(oid: str) -> str:
            return Template(oid).substitute(names)

        control = row.control
        self._row = SnmpDevice(
            row.label,
            filled(control) if isinstance(control, str) else (filled(control[0]), filled(control[1])),
            row.values,
            filled(row.state),
            row.on,
            row.off,
            {
                name: Meter(filled(one.oid), one.factor, filled(one.digits))
                for name, one in row.meters.items()
            },
        )

    @property
    def row(self) -> SnmpDevice:
        """The device's."""
        return self._row

    @property
    def label(self) -> str:
        """Outlet, family and address."""
        return f"outlet {self.outlet} of the {self._row.label} at {self.host}"

    def describe_hardware(self) -> str:
        """Return the label and the version. Nothing is sent to the device."""
        return f"{self.label}, by SNMP version {self.version}"

    def asker(self) -> Community | User:
        """Return the configured credentials."""
        if self.version == "2c":
            return Community(read_password(self.community, self.community_file) or "")
        return self.make_user(self.user_name or "")


@dataclass(kw_only=True, eq=False)
class SNMPServer(_SnmpOutlet):
    """An outlet by SNMP version 3, with the keys of Jumpstarter 0.9: 1 is written for on and 0 for off.

        export:
          power:
            type: snmp_power.SNMPServer
            config:
              host: pdu.lab
              user: lab
              plug: 7

    Opening and closing it switch nothing.
    """

    user: str
    plug: int
    oid: str = _RARITAN
    timeout: float = 5.0

    @property
    def row(self) -> SnmpDevice:
        """Raritan's, whose state is known, or the object that was configured, which is only written."""
        if self.oid.strip(".") == _RARITAN:
            found = DEVICES["raritan"]
            names = {"unit": "1", "outlet": str(self.plug)}
            control, state = f"{_RARITAN}.{self.plug}", Template(found.state).substitute(names)
            return SnmpDevice(found.label, control, (1, 0), state, found.on, found.off)
        control = f"{self.oid.strip('.')}.{self.plug}"
        return SnmpDevice("outlet", control, (1, 0), control, frozenset({1}), frozenset({0}))

    @property
    def tells_state(self) -> bool:
        """True for the default `oid`. The meaning of reading another object is not known."""
        return self.oid.strip(".") == _RARITAN

    @property
    def label(self) -> str:
        """Outlet and address."""
        return f"outlet {self.plug} at {self.host}"

    def describe_hardware(self) -> str:
        """Return the label and the version. Nothing is sent to the device."""
        return f"{self.label}, by SNMP version 3"

    def asker(self) -> Community | User:
        """Return the configured credentials."""
        return self.make_user(self.user)
