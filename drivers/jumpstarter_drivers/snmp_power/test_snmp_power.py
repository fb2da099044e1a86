"""Outlets by SNMP, end to end: the client over gRPC on one side, Debian's snmpd on the other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented

from jumpstarter_drivers.power.client import PowerReading
from jumpstarter_drivers.snmp_power.device_table import DEVICES
from jumpstarter_drivers.snmp_power.driver import SnmpOutlet, SNMPServer
from jumpstarter_drivers.testing import serve
from tests.support.snmp_messages import COUNTER64, SnmpQuestion, encode_integer, scripted_agent
from tests.support.snmp_outlets import AUTH, PRIV, Agent, snmpd


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with snmpd(tmp_path_factory.mktemp("snmpd")) as agent:
        yield agent


@pytest.fixture
def agent(running: Agent) -> Agent:
    running.reset({}, {})
    return running


def outlet(agent: Agent, device: str, **config: Any) -> SnmpOutlet:
    values = {"host": "127.0.0.1", "port": agent.port, "outlet": 3, "community": "private", "timeout": 8.0}
    return SnmpOutlet(device=device, **{**values, **config})


APC, PDU2, EATON = "1.3.6.1.4.1.318.1.1", "1.3.6.1.4.1.13742.6", "1.3.6.1.4.1.534.6.6.7.6"
POE = "1.3.6.1.2.1.105.1.1.1.3.1.3"
FAMILIES: dict[str, tuple[dict[str, int], dict[str, Any], list[tuple[str, int]]]] = {
    # Objects of an outlet that is off, what writing does, and what on and off have to write.
    "apc": (
        {f"{APC}.4.4.2.1.3.3": 2},
        {f"{APC}.4.4.2.1.3.3": None},
        [(f"{APC}.4.4.2.1.3.3", 1), (f"{APC}.4.4.2.1.3.3", 2)],
    ),
    "apc-rpdu": (
        {f"{APC}.12.3.5.1.1.4.3": 2},
        {f"{APC}.12.3.3.1.1.4.3": {"1": {f"{APC}.12.3.5.1.1.4.3": 1}, "2": {f"{APC}.12.3.5.1.1.4.3": 2}}},
        [(f"{APC}.12.3.3.1.1.4.3", 1), (f"{APC}.12.3.3.1.1.4.3", 2)],
    ),
    "apc-rpdu2": (
        {f"{APC}.26.9.2.3.1.5.3": 1},
        {f"{APC}.26.9.2.4.1.5.3": {"1": {f"{APC}.26.9.2.3.1.5.3": 2}, "2": {f"{APC}.26.9.2.3.1.5.3": 1}}},
        [(f"{APC}.26.9.2.4.1.5.3", 1), (f"{APC}.26.9.2.4.1.5.3", 2)],
    ),
    "raritan": (
        {f"{PDU2}.4.1.2.1.3.1.3": 8},
        {f"{PDU2}.4.1.2.1.2.1.3": {"1": {f"{PDU2}.4.1.2.1.3.1.3": 7}, "0": {f"{PDU2}.4.1.2.1.3.1.3": 8}}},
        [(f"{PDU2}.4.1.2.1.2.1.3", 1), (f"{PDU2}.4.1.2.1.2.1.3", 0)],
    ),
    "eaton": (
        {f"{EATON}.6.1.2.0.3": 0},
        {
            f"{EATON}.6.1.4.0.3": {"0": {f"{EATON}.6.1.2.0.3": 1}},
            f"{EATON}.6.1.3.0.3": {"0": {f"{EATON}.6.1.2.0.3": 0}},
        },
        [(f"{EATON}.6.1.4.0.3", 0), (f"{EATON}.6.1.3.0.3", 0)],
    ),
    "cyberpower": (
        {"1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.3": 2},
        {"1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.3": None},
        [("1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.3", 1), ("1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.3", 2)],
    ),
    "sentry3": (
        {"1.3.6.1.4.1.1718.3.2.3.1.10.1.1.3": 4},
        {
            "1.3.6.1.4.1.1718.3.2.3.1.11.1.1.3": {
                "1": {"1.3.6.1.4.1.1718.3.2.3.1.10.1.1.3": 5},
                "2": {"1.3.6.1.4.1.1718.3.2.3.1.10.1.1.3": 4},
            }
        },
        [("1.3.6.1.4.1.1718.3.2.3.1.11.1.1.3", 1), ("1.3.6.1.4.1.1718.3.2.3.1.11.1.1.3", 2)],
    ),
    "gude-8220": (
        {"1.3.6.1.4.1.28507.38.1.3.1.2.1.3.3": 0},
        {"1.3.6.1.4.1.28507.38.1.3.1.2.1.3.3": None},
        [("1.3.6.1.4.1.28507.38.1.3.1.2.1.3.3", 1), ("1.3.6.1.4.1.28507.38.1.3.1.2.1.3.3", 0)],
    ),
    "poe": ({POE: 2}, {POE: None}, [(POE, 1), (POE, 2)]),
}


def test_every_family_is_tested() -> None:
    assert set(DEVICES) - {"gude-8210", "gude-8226"} == set(FAMILIES)


@pytest.mark.parametrize("device", FAMILIES)
def test_an_outlet_is_switched_with_the_numbers_of_its_family(agent: Agent, device: str) -> None:
    values, writes, expected = FAMILIES[device]
    agent.reset(values, writes)
    with serve(outlet(agent, device)) as client:
        client.on()
        client.off()
    assert agent.written == expected


@pytest.mark.parametrize(
    ("user", "auth", "priv"),
    [("sha", "SHA", "AES"), ("md5", "MD5", "DES"), ("sha256", "SHA256", "AES"), ("plain", "NONE", "NONE")],
)
def test_version_3_with_every_kind_of_user(
    agent: Agent, user: str, auth: Any, priv: Any, tmp_path: Path
) -> None:
    values, writes, expected = FAMILIES["poe"]
    agent.reset(values, writes)
    config: dict[str, Any] = {"version": "3", "user_name": user, "auth_protocol": auth, "priv_protocol": priv}
    if auth != "NONE":
        (tmp_path / "auth").write_text(f"{AUTH}\n")
        (tmp_path / "auth").chmod(0o600)
        config |= {"auth_key_file": str(tmp_path / "auth"), "priv_key": PRIV}
    with serve(outlet(agent, "poe", **config)) as client:
        client.on()
    assert agent.written == expected[:1]


def test_an_outlet_that_takes_its_time_is_waited_for_and_not_told_again(agent: Agent) -> None:
    values, writes, expected = FAMILIES["eaton"]
    agent.reset(values, writes, later={f"{EATON}.6.1.2.0.3": [0, 3, 3]})
    with serve(outlet(agent, "eaton")) as client:
        client.on()
    assert agent.written == expected[:1]


def test_what_is_measured_has_the_right_unit(agent: Agent) -> None:
    sensors = {f"{PDU2}.5.4.3.1.4.1.3.{s}": v for s, v in ((1, 412), (4, 2305), (5, 94), (8, 1234))}
    digits = {f"{PDU2}.3.5.4.1.7.1.3.{s}": v for s, v in ((1, 3), (4, 1), (5, 0), (8, 0))}
    agent.reset({**sensors, **digits}, {})
    with serve(outlet(agent, "raritan")) as client:
        assert list(client.read()) == [PowerReading(230.5, 0.412, 94.0, 1234.0)]
    agent.reset({f"{APC}.26.9.4.3.1.6.3": 4, f"{APC}.26.9.4.3.1.7.3": 90}, {})
    with serve(outlet(agent, "apc-rpdu2")) as client:
        assert list(client.read()) == [PowerReading(current=0.4, power=90.0, measured=("current",))]
    with (
        serve(outlet(agent, "poe")) as client,
        pytest.raises(DriverMethodNotImplemented, match="has no meter for each"),
    ):
        list(client.read())


def test_a_device_that_lies_is_found_out(agent: Agent) -> None:
    agent.reset({POE: 2}, {POE: {}})
    with (
        serve(outlet(agent, "poe", timeout=2.0)) as client,
        pytest.raises(
            DriverError,
            match=r"outlet 3 of the PoE switch .* says that it is off, 2 s after",
        ),
    ):
        client.on()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"outlet": 9},
            r"outlet 9 of the PoE switch .*: .* has no object .* that can be written .notWritable.; check",
        ),
        (
            {"community": "public"},
            "does not let this community or user do that .noAccess.; give it the right to write",
        ),
        (
            {"community": "h7-wr0ng", "timeout": 1.0},
            "does not answer SNMP within 0.5 s; .*the community",
        ),
        ({"version": "3", "user_name": "nobody", "timeout": 3.0}, "does not let this user in: .*nobody"),
        (
            {
                "version": "3",
                "user_name": "sha",
                "auth_protocol": "SHA",
                "auth_key": "h7-wr0ng-key",
                "timeout": 3.0,
            },
            "does not let this user in: .*signature",
        ),
    ],
)
def test_a_refusal_is_one_sentence_without_secrets(
    agent: Agent, config: dict[str, Any], complaint: str
) -> None:
    values, writes, _ = FAMILIES["poe"]
    agent.reset(values, writes)
    driver = outlet(agent, "poe", **config)
    with serve(driver) as client, pytest.raises(DriverError, match=complaint) as caught:
        client.on()
    assert "h7-wr0ng" not in f"{caught.value} {driver!r}"
    assert "\n" not in str(caught.value)
    assert agent.written == []


@pytest.mark.parametrize(
    "digits",
    [
        encode_integer(2**63 - 1, COUNTER64),
        encode_integer(2**31 - 1),
        encode_integer(400),
        encode_integer(-400),
    ],
)
def test_a_measurement_with_absurd_digits_is_refused_at_once(digits: bytes) -> None:
    """Ten to the power of them would take hours, and stop all other devices."""
    asked: list[SnmpQuestion] = []

    def answer(question: SnmpQuestion) -> bytes:
        asked.append(question)
        value = encode_integer(2305) if len(asked) == 1 else digits
        return question.answer([(name, value) for name in question.names])

    with (
        scripted_agent(answer) as port,
        serve(scripted(port)) as client,
        pytest.raises(DriverError, match=r"says that a measurement has -?\d+ decimal digits; check `device`"),
    ):
        list(client.read())


def test_an_answer_about_another_outlet_is_not_taken() -> None:
    def answer(question: SnmpQuestion) -> bytes:
        return question.answer([(name[:-1] + b"\x63", encode_integer(7)) for name in question.names])

    with scripted_agent(answer) as port, serve(scripted(port)) as client:
        with pytest.raises(
            DriverError, match=r"was asked to write [\d.]+ and answers with other objects; restart"
        ):
            client.on()
        with pytest.raises(
            DriverError, match=r"was asked to read [\d.]+ and answers with other objects; restart"
        ):
            client.status()


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (1, r"refuses to read [\d.]+ \(tooBig\); check"),
        (2, r"has no object [\d.]+ that can be read \(noSuchName\); check"),
        (16, r"\(authorizationError\); give it the right to read"),
    ],
)
def test_a_question_that_is_refused_is_not_called_a_command(error: int, complaint: str) -> None:
    def answer(question: SnmpQuestion) -> bytes:
        return question.answer([(name, b"\5\0") for name in question.names], error=error, index=1)

    with (
        scripted_agent(answer) as port,
        serve(scripted(port)) as client,
        pytest.raises(DriverError, match=complaint),
    ):
        client.status()


def scripted(port: int) -> SnmpOutlet:
    return SnmpOutlet(
        device="raritan", host="127.0.0.1", port=port, outlet=3, community="private", timeout=8.0
    )


def test_nobody_there_is_one_sentence() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        driver = SnmpOutlet(
            device="poe", host="127.0.0.1", port=silent.getsockname()[1], outlet=1, community="x", timeout=1.0
        )
        with serve(driver) as client, pytest.raises(DriverError, match=r"does not answer SNMP within 0.5 s"):
            client.on()


def test_snmp_of_0_9_has_its_own_keys(agent: Agent) -> None:
    values, writes, expected = FAMILIES["raritan"]
    agent.reset(values, writes)
    keys: dict[str, Any] = {"host": "127.0.0.1", "port": agent.port, "user": "plain", "plug": 3}
    with serve(SNMPServer(**keys)) as client:
        client.on()
        client.off()
    assert agent.written == expected
    agent.reset({}, {f"{APC}.4.4.2.1.3.3": {}})
    with serve(SNMPServer(**keys, oid=f"{APC}.4.4.2.1.3")) as client:
        client.on()
    assert agent.written == [(f"{APC}.4.4.2.1.3.3", 1)]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"device": "apcc"}, "device is 'apcc'; did you mean 'apc'"),
        ({"community": None}, "version 2c needs one of community and community_file"),
        ({"version": "3"}, "version 3 needs a user_name"),
        ({"auth_protocol": "SHA"}, "auth_protocol needs one of auth_key and auth_key_file"),
        ({"auth_protocol": "SHA", "auth_key": "short"}, "auth_key has less than 8 characters"),
        ({"priv_protocol": "AES", "priv_key": "long-enough"}, "priv_protocol needs an auth_protocol"),
        ({"port": 0}, "port is 0"),
        ({"host": "snmp://pdu"}, "host is invalid: it takes a host name or an IP address"),
        ({"unit": -1}, "outlet and unit take numbers"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(config: dict[str, Any], complaint: str) -> None:
    values: dict[str, Any] = {"device": "poe", "host": "10.0.0.7", "outlet": 1, "community": "private"}
    with pytest.raises(ValueError, match=complaint):
        SnmpOutlet(**{**values, **config})
