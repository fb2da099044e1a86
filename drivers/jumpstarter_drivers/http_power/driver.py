"""Outlets with a web interface. `HttpOutlet` knows brands by the rows of `device_table`; `HttpPower` takes any URLs."""

from __future__ import annotations

import re
import secrets
import urllib.parse
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_exporter.driver import DeviceFailed
from jumpstarter_proto.texts import shown
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_drivers.http_power.conversation import Conversation
from jumpstarter_drivers.http_power.device_table import DEVICES, MASK_DIGITS, HttpDevice
from jumpstarter_drivers.http_power.exchange import HttpAnswer, HttpOrigin, HttpRequest
from jumpstarter_drivers.http_power.http_credentials import HttpCredentials, Scheme
from jumpstarter_drivers.http_power.templates import fill_path, fill_request, make_request
from jumpstarter_drivers.power.answers import Measure, find_measures, find_number, find_text
from jumpstarter_drivers.power.device_access import DeviceTrust, read_password
from jumpstarter_drivers.power.outlet import OutletRefused, RemoteOutlet
from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["EnerGenie", "HttpOutlet", "HttpPower"]

MAX_OUTLET = 999
"""The number of an outlet; some patterns repeat a part so often."""
MAX_QUOTED_LENGTH = 160


@dataclass(kw_only=True, eq=False)
class _WebOutlet(RemoteOutlet):
    """Common part of outlets with a web interface."""

    ca: str | None = None
    """A file with the certificate, or its authority, of a device with https."""
    insecure_tls: bool = False
    """Accept any certificate. An attacker on the network can then learn the password."""

    def __post_init__(self) -> None:
        """Check the addresses."""
        super().__post_init__()
        self._conversations: dict[tuple[HttpOrigin, HttpCredentials | None], Conversation] = {}

    @abstractmethod
    def credentials(self) -> tuple[Scheme, HttpCredentials | None]:
        """Return the scheme and the credentials. Blocking: it may read a file."""

    async def open(self) -> None:
        """Read the password; nothing is asked of the device before its first use."""
        self._scheme, self._credentials = await self.in_thread(self.credentials)
        self._conversations = {}

    async def conversation(self, origin: HttpOrigin, credentials: HttpCredentials | None) -> Conversation:
        """Return the conversation with a device that uses these credentials."""
        key = origin, credentials
        if key not in self._conversations:
            tls = None
            if origin.scheme == "https":
                try:
                    tls = await self.in_thread(DeviceTrust(self.ca, self.insecure_tls).context)
                except OSError as error:
                    raise OutletRefused(
                        f"the certificates in {self.ca} cannot be read: {error.strerror}"
                    ) from None
            self._conversations[key] = Conversation(
                origin, self._scheme, credentials, seconds=self.attempt_seconds, tls=tls
            )
        return self._conversations[key]

    def measured(self, answer: HttpAnswer, wanted: Mapping[str, Measure]) -> PowerReading:
        """Return the measurements in an answer. NotImplementedError if there are none."""
        if (reading := find_measures(answer.text, wanted)) is None:
            raise NotImplementedError(f"{self.label} measures nothing; use a device with a meter")
        return reading


@dataclass(kw_only=True, eq=False)
class HttpOutlet(_WebOutlet):
    """An outlet of a brand that is known.

        export:
          power:
            type: http_power.HttpOutlet
            config:
              device: shelly           # README.md lists them
              host: 192.168.1.65       # or host:port, or https://host
              outlet: 0                # as the device counts; its first one if left out
              password_file: /etc/jumpstarter/shelly.password

    Opening and closing it switch nothing.
    """

    device: str
    host: str
    outlet: int | str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None

    def __post_init__(self) -> None:
        """Find the row."""
        super().__post_init__()
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; {nearest(self.device, DEVICES)}")
        try:
            self._origin = HttpOrigin.parse(self.host)
        except ValueError as error:
            raise ValueError(f"host: {error}") from None
        if self.password is not None and self.password_file is not None:
            raise ValueError("there are both password and password_file; leave one out")
        self._row: HttpDevice = DEVICES[self.device]
        number = self._row.first if self.outlet is None else self.outlet
        if number is None:
            raise ValueError(f"outlet is missing; the {self._row.label} has names for its outlets")
        self._outlet = str(number)
        if not re.fullmatch(r"[\w.-]{1,100}", self._outlet):
            raise ValueError("outlet takes the number or the name that the device gives to it")
        place = self._place = 0
        if (first := self._row.first) is not None:
            place = self._place = _outlet_number(self._row, self._outlet)
            self._outlet = str(place)
        self._is_first = place == first
        self._names = {
            "outlet": self._outlet,
            "index": str(max(place - 1, 0)),
            "mask": "".join(str(int(n == place)) for n in range(1, MASK_DIGITS + 1)),
            "session": "".join(secrets.choice("0123456789") for _ in range(32)),
            "user": "",
            "password": "",
        }

    @property
    def label(self) -> str:
        """Outlet, brand and address."""
        return f"outlet {self._outlet} of the {self._row.label} at {self._origin}"

    def describe_hardware(self) -> str:
        """Return the label and the scheme. Nothing is sent to the device."""
        return f"{self.label}, by {self._origin.scheme}"

    def credentials(self) -> tuple[Scheme, HttpCredentials | None]:
        """Return the configured credentials, with the brand's default user name."""
        password = read_password(self.password, self.password_file)
        user = self._row.user if self.user is None else self.user
        if password is None:
            return self._row.scheme, None
        self._names |= {"user": user, "password": password}
        return self._row.scheme, HttpCredentials(user, password)

    @property
    def tells_state(self) -> bool:
        """Whether the row has a request for the state."""
        return self._row.state is not None

    async def send(self, *, on: bool) -> None:
        """Send the row's request."""
        switch = self._row.switch
        template = switch if isinstance(switch, str) else switch[0 if on else 1]
        await self._ask(template, value=self._row.values[0 if on else 1])

    async def is_on(self) -> bool | None:
        """Ask with the row's request."""
        if self._row.state is None:
            return None
        answer = await self._ask(self._row.state)
        path = self._row.state_at
        said = find_text(answer.text, fill_path(path, self._names))
        if said is None and self._is_first and (path := self._row.state_at_first):
            said = find_text(answer.text, fill_path(path, self._names))
        if said is None:
            raise OutletRefused(
                "its answer has no state of this outlet; check `device`, `outlet` and the password"
            )
        if self._row.state_is_mask:
            if self._place > 4 * len(said):
                raise OutletRefused(
                    f"its answer has the states of {4 * len(said)} outlets; check `device` and `outlet`"
                )
            return bool(int(said, 16) >> (self._place - 1) & 1)
        return True if said in self._row.on else False if said in self._row.off else None

    async def reading(self) -> PowerReading:
        """Ask with the row's request."""
        row = self._row
        if row.meter is None:
            raise NotImplementedError(f"the {row.label} does not measure; use a device with a meter")
        answer = await self._ask(row.meter)
        if row.valid_at and find_text(answer.text, fill_path(row.valid_at, self._names)) == "false":
            raise DeviceFailed(f"{self.label} says that what it measures is not valid yet; try again")
        measures = {
            name: Measure(fill_path(measure.path, self._names), measure.factor)
            for name, measure in row.measures.items()
        }
        return self.measured(answer, measures)

    async def _ask(self, template: str, value: str = "") -> HttpAnswer:
        row, conversation = self._row, await self.conversation(self._origin, self._credentials)
        request = self._request(template, value)
        if row.login:
            async with conversation.logged_in(self._request(row.login), self._request(row.logout)):
                answer = await conversation.ask_inside(request)
        else:
            answer = await conversation.ask(request)
        if row.refusal and re.search(row.refusal, answer.text):
            raise OutletRefused(f"it answers {self._quotable(answer.text)}; check `outlet` and password")
        return answer

    def _quotable(self, text: str) -> str:
        """Return the beginning of an answer without the password."""
        text = text if self._credentials is None else self._credentials.hide(text)
        return shown(" ".join(text.split()), MAX_QUOTED_LENGTH)

    def _request(self, template: str, value: str = "") -> HttpRequest:
        names = {**self._names, "value": value}
        request = fill_request(template, names, self._row.login_query if self._names["password"] else "")
        return request.with_headers(
            {name: fill_path(text, names) for name, text in self._row.headers.items()}
        )


@dataclass(kw_only=True, eq=False)
class EnerGenie(HttpOutlet):
    """An EnerGenie power strip with a network socket, with the keys of Jumpstarter 0.9.

        export:
          power:
            type: http_power.EnerGenie
            config:
              host: 192.168.0.1
              password: "1"
              slot: 1

    Opening and closing it switch nothing.
    """

    device: str = "energenie"
    slot: int = 1

    def __post_init__(self) -> None:
        """The slot is the outlet."""
        self.outlet = self.slot if self.outlet is None else self.outlet
        if self.password is None and self.password_file is None:
            self.password = "1"  # noqa: S105 - the maker's
        super().__post_init__()


@dataclass(kw_only=True)
class HttpEndpoint:
    """A request, by 0.9's names for its parts."""

    url: str = field(repr=False)
    method: str = "GET"
    data: str | None = field(default=None, repr=False)
    voltage_path: str | None = None
    current_path: str | None = None
    power_path: str | None = None
    energy_path: str | None = None
    """Watt-hours."""

    def origin(self) -> HttpOrigin:
        """Return the host and port. ValueError if the URL is invalid."""
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("url takes an address that begins with http:// or https://")
        return HttpOrigin.parse(self.url)

    def request(self) -> HttpRequest:
        """Return the request. ValueError if it cannot be sent."""
        if self.data is not None and self.method.upper() in ("GET", "HEAD"):
            raise ValueError(f"there is data, which {self.method.upper()} does not send; add `method: POST`")
        parts = urllib.parse.urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return make_request(self.method, urllib.parse.quote(target, safe="%/:=&?~#+!$,;'@()*[]|"), self.data)

    def credentials(self) -> HttpCredentials | None:
        """Return the credentials in the URL, if there are any."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.username is None:
            return None
        return HttpCredentials(
            urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        )


@dataclass(kw_only=True)
class HttpStateEndpoint(HttpEndpoint):
    """A request whose answer says whether the outlet is on."""

    path: str = ""
    """Where in the JSON; or a pattern with one group, behind a `~`."""
    on: str | bool | int | None = None
    """The value if the outlet is on; on, true and 1 if left out."""
    off: str | bool | int | None = None


@dataclass(kw_only=True)
class HttpLogin:
    """A user's name and password."""

    user: str = ""
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None


@dataclass(kw_only=True)
class HttpAuth:
    """Authentication at the device. `digest` is MD5 or SHA-256, as the device requests; `bearer` is a token."""

    basic: HttpLogin | None = None
    digest: HttpLogin | None = None
    bearer: HttpLogin | None = None

    def chosen(self) -> tuple[Scheme, HttpLogin | None]:
        """ValueError if there are several."""
        given: list[tuple[Scheme, HttpLogin]] = []
        given += [("basic", self.basic)] if self.basic else []
        given += [("digest", self.digest)] if self.digest else []
        given += [("bearer", self.bearer)] if self.bearer else []
        if len(given) > 1:
            raise ValueError(
                f"auth has {' and '.join(scheme for scheme, _ in given)}; keep the one that the device wants"
            )
        return given[0] if given else ("none", None)


@dataclass(kw_only=True, eq=False)
class HttpPower(_WebOutlet):
    """Any outlet that is switched by URLs, with the keys of Jumpstarter 0.9.

        export:
          power:
            type: http_power.HttpPower
            config:
              power_on: {url: "http://10.0.0.7/outlet?1=ON"}
              power_off: {url: "http://10.0.0.7/outlet?1=OFF"}
              power_state: {url: "http://10.0.0.7/status", path: outlets.0.on}   # read after each switch

    Opening and closing it switch nothing.
    """

    name: str = "device"
    power_on: HttpEndpoint
    power_off: HttpEndpoint
    power_read: HttpEndpoint | None = None
    power_state: HttpStateEndpoint | None = None
    auth: HttpAuth | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the URLs."""
        super().__post_init__()
        for key in ("power_on", "power_off", "power_read", "power_state"):
            if (endpoint := getattr(self, key)) is not None:
                try:
                    endpoint.origin()
                    endpoint.request()
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
        self._scheme_name, self._login = (self.auth or HttpAuth()).chosen()

    @property
    def label(self) -> str:
        """Return the name and the address."""
        return f"{self.name} at {self.power_on.origin()}"

    def describe_hardware(self) -> str:
        """Return the addresses, without their queries, which may contain secrets."""
        return f"{self.label}, by {self.power_on.request()} and {self.power_off.request()}"

    def credentials(self) -> tuple[Scheme, HttpCredentials | None]:
        """Return those of `auth`. Without it each request uses the credentials in its own URL."""
        if self._login is None:
            return "basic", None
        return self._scheme_name, HttpCredentials(
            self._login.user, read_password(self._login.password, self._login.password_file) or ""
        )

    @property
    def tells_state(self) -> bool:
        """Whether `power_state` is configured."""
        return self.power_state is not None

    async def send(self, *, on: bool) -> None:
        """Ask the URL."""
        await self._ask(self.power_on if on else self.power_off)

    async def is_on(self) -> bool | None:
        """Ask the URL."""
        state = self.power_state
        if state is None:
            return None
        answer = await self._ask(state)
        said = find_text(answer.text, state.path)
        if said is None:
            raise OutletRefused(f"there is no {state.path!r} in its answer; correct `power_state.path`")
        on = {"true", "on", "1"} if state.on is None else {str(state.on).lower()}
        off = {"false", "off", "0"} if state.off is None else {str(state.off).lower()}
        return True if said in on else False if said in off else None

    async def reading(self) -> PowerReading:
        """Send `power_read`. A value without a path is found by its name, and is 0 if it is missing, as in 0.9."""
        read = self.power_read
        if read is None:
            raise NotImplementedError(f"{self.label} has no `power_read`; add it if the device can measure")
        answer = await self._ask(read)
        paths = {
            "voltage": read.voltage_path,
            "current": read.current_path,
            "power": read.power_path,
            "energy": read.energy_path,
        }
        for path in filter(None, paths.values()):
            if find_number(answer.text, path) is None:
                raise OutletRefused(
                    f"there is no number at {path!r} in its answer; correct the path in `power_read`"
                )
        return self.measured(answer, {name: Measure(path or name) for name, path in paths.items()})

    async def _ask(self, endpoint: HttpEndpoint) -> HttpAnswer:
        # What is in one URL is for that URL: the others may be those of other devices.
        credentials = endpoint.credentials() if self._login is None else self._credentials
        return await (await self.conversation(endpoint.origin(), credentials)).ask(endpoint.request())


def _outlet_number(row: HttpDevice, text: str) -> int:
    """Return the number of an outlet. ValueError if the device has no outlet with that number."""
    last = MASK_DIGITS if any("$mask" in request for request in row.switch) else MAX_OUTLET
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not (row.first or 0) <= number <= last:
        raise ValueError(f"outlet is {text!r}; the {row.label} counts its outlets from {row.first} to {last}")
    return number
