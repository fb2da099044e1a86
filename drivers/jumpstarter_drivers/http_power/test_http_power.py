"""Outlets end to end: the client over gRPC on one side, on the other a device that answers as the brand does."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote_plus

import pytest
import requests
import trio
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented
from jumpstarter_exporter import config as configuration
from requests.auth import HTTPDigestAuth

from jumpstarter_drivers.http_power.device_table import DEVICES
from jumpstarter_drivers.http_power.driver import (
    HttpAuth,
    HttpEndpoint,
    HttpLogin,
    HttpOutlet,
    HttpPower,
    HttpStateEndpoint,
)
from jumpstarter_drivers.http_power.http_credentials import HttpAuthenticator, HttpCredentials
from jumpstarter_drivers.power.client import PowerClient, PowerReading
from jumpstarter_drivers.testing import serve, serve_async
from tests.support.web_outlet_models import shelly_gen1, shelly_gen2, tasmota
from tests.support.web_outlets import Asked, Reply, WebOutlets, serve_outlets

PASSWORD = 'p"ä ss&word=%41+'


def outlet(device: WebOutlets, kind: str, **config: Any) -> HttpOutlet:
    return HttpOutlet(device=kind, host=device.address, **{"timeout": 3.0, **config})


@contextmanager
def gen1(**config: Any) -> Iterator[tuple[WebOutlets, Any]]:
    with (
        serve_outlets(shelly_gen1, first=0) as device,
        serve(outlet(device, "shelly-gen1", **config)) as client,
    ):
        yield device, client


@pytest.mark.parametrize(
    ("kind", "model", "first", "login"),
    [
        ("shelly-gen1", shelly_gen1, 0, ""),
        ("shelly-gen1", shelly_gen1, 0, "basic"),
        ("shelly", shelly_gen2, 0, ""),
        ("shelly", shelly_gen2, 0, "digest"),
        ("tasmota", tasmota, 1, ""),
        ("tasmota", tasmota, 1, "query"),
    ],
)
@pytest.mark.parametrize("outlets", [1, 2])
def test_an_outlet_is_switched_and_asked(
    kind: str, model: Any, first: int, login: str, *, outlets: int, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    config: dict[str, Any] = {"user": "admin", "password_file": str(secret)} if login else {}
    number = first + outlets - 1
    with (
        serve_outlets(
            model, outlets=outlets, first=first, login=login, password=PASSWORD if login else ""
        ) as device,
        serve(outlet(device, kind, outlet=number, **config)) as client,
    ):
        client.on()
        assert device.is_on == {n: n == number for n in device.is_on}
        client.on()
        client.off()
        assert not any(device.is_on.values())
        client.cycle(wait=0)
        assert device.is_on[number]


def test_the_first_outlet_needs_no_number() -> None:
    with gen1() as (device, client):
        client.on()
        assert device.is_on == {0: True, 1: False}


@pytest.mark.parametrize(
    ("kind", "model", "number", "expected"),
    [
        ("shelly-gen1", shelly_gen1, 0, PowerReading(230.5, 0.02, 12.5, 2.0)),
        ("shelly-gen1", shelly_gen1, 1, PowerReading(power=12.5, energy=2.0, measured=())),
        ("shelly", shelly_gen2, 0, PowerReading(225.9, 0.05, 12.5, 11.679)),
        ("tasmota", tasmota, 1, PowerReading(230.0, 0.13, 12.5, 3185.0)),
        ("tasmota", tasmota, 2, PowerReading(230.0, 2.1, 483.0, 3185.0)),
    ],
)
def test_an_outlet_measures_what_its_device_measures(
    kind: str, model: Any, number: int, expected: PowerReading
) -> None:
    first = 1 if kind == "tasmota" else 0
    with serve_outlets(model, first=first) as device, serve(outlet(device, kind, outlet=number)) as client:
        device.watts = 12.5
        assert list(client.read()) == [expected]


def test_what_is_not_measured_is_not_shown_as_zero() -> None:
    reading = PowerReading(power=12.5, energy=2.0, measured=())
    assert str(reading) == "power=12.5 W  energy=2.0 Wh"
    assert (
        str(PowerReading(230.0, 0.5, 80.0))
        == "voltage=230.0 V  current=0.5 A  apparent_power=115.0 VA  power=80.0 W"
    )


def test_an_outlet_without_a_meter_says_so_and_does_not_read_zero() -> None:
    with (
        serve_outlets(shelly_gen2, first=0) as device,
        serve(outlet(device, "shelly", outlet=1)) as client,
        pytest.raises(
            DriverMethodNotImplemented, match=r"outlet 1 of the Shelly at .* measures nothing; use"
        ),
    ):
        list(client.read())


# --- devices that misbehave


@pytest.mark.parametrize("fault", ["reset", "cut", "garbage", "status 503"])
@pytest.mark.parametrize("before", [0, 1], ids=["the command", "the question"])
def test_what_is_lost_is_said_again(fault: str, before: int) -> None:
    with gen1() as (device, client):
        device.faults = ["ok"] * before + [fault]
        client.on()
        assert device.is_on[0]


@pytest.mark.parametrize("fault", ["hang", "endless", "drip"])
def test_an_answer_without_end_does_not_hold_the_outlet_up(fault: str) -> None:
    with gen1(timeout=1.0) as (device, client):
        device.faults = [fault]
        client.on()
        assert device.is_on[0]


def test_a_device_that_restarts_behind_its_answer_is_told_again() -> None:
    with gen1(timeout=5.0) as (device, client):
        device.faults = ["forget"]
        client.on()
        assert device.is_on[0]
        assert device.paths().count("GET /relay/0") > 2


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (
            "hang",
            (
                r"outlet 0 of the Shelly .* was not switched on within 1 s: 127.0.0.1:\d+ does not answer "
                r"GET /relay/0 within 0.5 s; check its network and restart it; whether the board has power is not"
            ),
        ),
        (
            "reset",
            "the connection was closed without an answer to GET /relay/0; the device may have been restarted",
        ),
        ("cut", r"the answer to GET /relay/0 was cut after \d+ bytes; the device may have been restarted"),
        (
            "garbage",
            "the answer to GET /relay/0 is not HTTP; check that its web interface is at this address and port",
        ),
        ("endless", "the answer to GET /relay/0 is longer than 64 KiB; check the address"),
        ("status 503", "answers GET /relay/0 with the error 503; restart it"),
    ],
)
def test_a_device_that_does_not_recover_is_one_sentence_and_missing(fault: str, complaint: str) -> None:
    with gen1(timeout=1.0) as (device, client):
        device.faults = [fault] * 1000
        with pytest.raises(DriverError, match=complaint) as caught:
            client.on()
        assert "\n" not in str(caught.value)
        device.faults = []
        client.on()
        assert device.is_on[0]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (
            "status 302 http://evil.lab/relay/0?x=1",
            r"redirects GET /relay/0 to http://evil.lab/relay/0, which is not followed",
        ),
        ("status 403", "forbids GET /relay/0; see what its web interface allows this user"),
        ("status 404", "has no GET /relay/0; check what kind of device it is, and the outlet"),
        ("status 400", "refuses GET /relay/0 with the status 400; check the outlet"),
    ],
)
def test_a_refusal_is_not_repeated(fault: str, complaint: str) -> None:
    with gen1(timeout=30.0) as (device, client):
        device.faults = [fault]
        with pytest.raises(DriverError, match=f"outlet 0 of the Shelly .*: .*{complaint}"):
            client.off()
        assert len(device.asked) == 1


def test_a_device_that_lies_is_found_out() -> None:
    with gen1(timeout=2.0) as (device, client):
        device.stuck = {0}
        with pytest.raises(
            DriverError,
            match=r"outlet 0 .* says that it is off, 2 s after the command to switch on; see",
        ):
            client.on()


def test_nobody_there_is_one_sentence() -> None:
    with serve_outlets(shelly_gen1, first=0) as device:
        address = device.address
    with serve(HttpOutlet(device="shelly", host=address, timeout=0.3)) as client:
        with pytest.raises(DriverError, match=r"cannot be reached \(Connection refused\)"):
            client.on()
        with pytest.raises(DriverError, match=r"was not read: .* cannot be reached \(Connection refused\)"):
            list(client.read())


@pytest.mark.parametrize(
    ("kind", "model", "complaint"),
    [
        ("shelly-gen1", shelly_gen1, "has no GET /relay/7; check what kind of device it is, and the outlet"),
        ("shelly", shelly_gen2, "it answers .*value 7 not found!.*; check `outlet`"),
        ("tasmota", tasmota, 'it answers .*"Unknown".*; check'),
    ],
)
def test_an_outlet_that_does_not_exist_is_one_sentence(kind: str, model: Any, complaint: str) -> None:
    with (
        serve_outlets(model, first=0) as device,
        serve(outlet(device, kind, outlet=7)) as client,
        pytest.raises(DriverError, match=f"outlet 7 of the .*: .*{complaint}"),
    ):
        client.on()


def test_the_wrong_kind_of_device_is_said() -> None:
    with (
        serve_outlets(shelly_gen1, first=0) as device,
        serve(outlet(device, "shelly")) as client,
        pytest.raises(DriverError, match="has no POST /rpc; check what kind of device it is"),
    ):
        client.on()


def test_a_cycle_whose_off_is_not_confirmed_switches_on_again() -> None:
    def silent_while_off(device: WebOutlets, asked: Asked) -> Reply:
        is_question = asked.path == "/relay/0" and not asked.query
        return Reply("", 503) if is_question and not device.is_on[0] else shelly_gen1(device, asked)

    with serve_outlets(silent_while_off, first=0) as device, serve(outlet(device, "shelly-gen1")) as client:
        client.on()
        with pytest.raises(DriverError, match=r"was not switched off within 3 s: .*error 503"):
            client.cycle(wait=0)
        assert device.is_on[0]


# --- passwords


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_the_counterparts_digest_is_that_of_an_independent_client(algorithm: str) -> None:
    with serve_outlets(shelly_gen2, first=0, login="digest", password="secret") as device:
        device.algorithm = algorithm
        url = f"http://{device.address}/rpc/Switch.GetStatus?id=0"
        assert requests.get(url, auth=HTTPDigestAuth("admin", "secret"), timeout=10).json()["output"] is False
        assert requests.get(url, auth=HTTPDigestAuth("admin", "wrong"), timeout=10).status_code == 401


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_a_challenge_is_used_again_until_the_device_has_another(algorithm: str) -> None:
    with (
        serve_outlets(shelly_gen2, first=0, login="digest", password="secret") as device,
        serve(outlet(device, "shelly", password="secret")) as client,
    ):
        device.algorithm = algorithm
        client.on()
        assert [said.partition(b" ")[0] for said in device.log] == [b"", b"Digest", b"Digest"]
        device.nonces = {}
        client.off()
        assert not device.is_on[0]


def test_a_basic_challenge_does_not_get_a_digests_password() -> None:
    with (
        serve_outlets(shelly_gen2, first=0, login="basic", password="secret") as device,
        serve(outlet(device, "shelly", password="secret")) as client,
    ):
        with pytest.raises(DriverError, match="asks for a login by basic, and not by digest as the conf"):
            client.on()
        assert device.log == [b""]


def test_a_digest_that_is_not_supported_is_said_and_not_taken_for_a_wrong_password() -> None:
    with (
        serve_outlets(shelly_gen2, first=0, login="digest", password="secret") as device,
        serve(outlet(device, "shelly", password="secret")) as client,
    ):
        device.algorithm = "SHA-512-256"
        with pytest.raises(
            DriverError, match="with an algorithm other than MD5 and SHA-256; choose one of these"
        ):
            client.on()
        assert device.log == [b""]


REPEATED = 'h7"wr öng&x'


@pytest.mark.parametrize("status", [200, 302, 400, 403])
@pytest.mark.parametrize(
    ("kind", "user"), [("tasmota", "admin"), ("aten", "lab"), ("gude", "lab"), ("shelly", "admin")]
)
def test_a_device_that_repeats_a_request_tells_no_password(
    kind: str, user: str, *, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As some do for every request that they do not understand."""

    def repeat(device: WebOutlets, asked: Asked) -> Reply:
        authorization = asked.headers.get("authorization", "")
        said = f"{asked.target} {unquote_plus(asked.target)} {asked.body} {unquote_plus(asked.body)} {authorization}"
        answer = {"message": f"cannot do: {said}", "error": {"text": said}, "WARNING": said}
        location = f"http://{user}:{quote(REPEATED)}@{device.address}{asked.target}#{quote(REPEATED)}"
        return Reply(json.dumps(answer), status, headers=(("Location", location),))

    caplog.set_level(logging.DEBUG)
    with (
        serve_outlets(repeat) as device,
        serve(outlet(device, kind, outlet=1, user=user, password=REPEATED)) as client,
        pytest.raises(DriverError) as caught,
    ):
        client.on()
    heard = f"{caught.value} {caplog.text}"
    coded = base64.b64encode(f"{user}:{REPEATED}".encode()).decode()
    for form in (REPEATED, quote(REPEATED), quote_plus(REPEATED), json.dumps(REPEATED)[1:-1], coded, "h7"):
        assert form not in heard


def test_a_device_that_repeats_what_a_url_has_tells_nothing_of_it() -> None:
    def repeat(device: WebOutlets, asked: Asked) -> Reply:
        return Reply(json.dumps({"message": f"cannot do {asked.target} with {asked.body}"}), 400)

    with serve_outlets(repeat) as device:
        url = f"http://{device.address}/set?key=h7-wr0ng"
        endpoint = HttpEndpoint(url=url, method="POST", data="token=h7-als0")
        with (
            serve(HttpPower(power_on=endpoint, power_off=endpoint)) as client,
            pytest.raises(DriverError, match=r"\(cannot do /set\?\.\.\. with \.\.\.\)") as caught,
        ):
            client.on()
    assert "h7" not in str(caught.value)


def test_a_command_that_waits_for_other_outlets_is_not_said_to_have_arrived() -> None:
    with serve_outlets(shelly_gen1, first=0) as device:
        device.faults = ["hang"]
        slow, quick = (outlet(device, "shelly-gen1", outlet=n, timeout=s) for n, s in ((0, 40.0), (1, 0.5)))
        with serve(slow) as other, serve(quick) as client, ThreadPoolExecutor() as pool:
            switching = pool.submit(other.on)
            while not device.asked:
                time.sleep(0.01)
            with pytest.raises(
                DriverError,
                match=r"outlet 1 .* was not switched on within 0.5 s: .* is busy with other outlets of it; try",
            ):
                client.on()
            assert len(device.asked) == 1
            device.released.set()
            switching.result(30)


def test_a_measurement_beyond_all_numbers_is_left_out() -> None:
    def absurd(_: WebOutlets, __: Asked) -> Reply:
        return Reply('{"StatusSNS":{"ENERGY":{"Power":12,"Total":1e308}}}')

    with serve_outlets(absurd) as device, serve(outlet(device, "tasmota")) as client:
        assert list(client.read()) == [PowerReading(power=12.0, measured=())]


@pytest.mark.parametrize(
    ("kind", "model", "login", "without"),
    [
        ("shelly-gen1", shelly_gen1, "basic", "asks for a password; add `password_file`"),
        ("shelly", shelly_gen2, "digest", "asks for a password; add `password_file`"),
        ("tasmota", tasmota, "query", "asks for a password; add `password_file`"),
    ],
)
def test_a_wrong_password_is_one_sentence_without_it(
    kind: str, model: Any, login: str, without: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first = DEVICES[kind].first or 0
    with serve_outlets(model, first=first, login=login, password="right") as device:
        with (
            serve(outlet(device, kind, user="admin", password="h7-wr0ng")) as client,
            pytest.raises(
                DriverError, match="does not accept the user and the password; correct them"
            ) as caught,
        ):
            client.on()
        assert "h7-wr0ng" not in f"{caught.value} {caplog.text}"
        with serve(outlet(device, kind)) as client, pytest.raises(DriverError, match=without):
            client.on()


def test_a_password_is_in_no_representation() -> None:
    shown = repr(HttpOutlet(device="shelly", host="10.0.0.7", password="h7-s3cret"))
    power = HttpPower(
        power_on=HttpEndpoint(
            url="http://u:h7-s3cret@10.0.0.7/on?p=h7-s3cret", method="POST", data="h7-s3cret"
        ),
        power_off=HttpEndpoint(url="http://10.0.0.7/off"),
        auth=HttpAuth(basic=HttpLogin(user="u", password="h7-s3cret")),
    )
    assert "h7-s3cret" not in f"{shown} {power!r} {power.describe_hardware()} {power.label}"


def test_a_password_that_is_a_number_for_yaml_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text(
        """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
export:
  power:
    type: http_power.HttpOutlet
    config: {device: shelly, host: 10.0.0.7, password: 47110815}
"""
    )
    with pytest.raises(configuration.ConfigError, match="it takes text; put it in quotes") as caught:
        configuration.build(configuration.load(file))
    assert "47110815" not in str(caught.value)


def test_a_file_with_a_password_that_others_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x\n")
    secret.chmod(0o644)
    with (
        serve(HttpOutlet(device="shelly", host="10.0.0.7", password_file=str(secret))) as client,
        pytest.raises(DriverError, match=r"can be read by others .* chmod 600"),
    ):
        client.on()


# --- 0.9's driver


def generic(device: WebOutlets, **config: Any) -> HttpPower:
    base = f"http://{device.address}"
    return HttpPower(
        power_on=HttpEndpoint(url=f"{base}/cm?cmnd=Power On"),
        power_off=HttpEndpoint(url=f"{base}/cm?cmnd=Power%20Off"),
        **{"timeout": 2.0, **config},
    )


def test_any_urls_switch_and_measure() -> None:
    with serve_outlets(tasmota, outlets=1) as device:
        device.watts = 25.0
        base = f"http://{device.address}"
        power = generic(
            device,
            power_state=HttpStateEndpoint(url=f"{base}/cm?cmnd=Power", path="POWER", on="ON", off="OFF"),
            power_read=HttpEndpoint(
                url=f"{base}/cm?cmnd=Status%208",
                voltage_path="StatusSNS.ENERGY.Voltage",
                current_path="StatusSNS.ENERGY.Current",
                power_path="StatusSNS.ENERGY.Power",
            ),
        )
        with serve(power) as client:
            client.on()
            assert device.is_on[1]
            assert list(client.read()) == [PowerReading(230.0, 0.13, 25.0)]
            client.off()
            assert device.is_on == {1: False}
            device.stuck = {1}
            with pytest.raises(DriverError, match=r"device at .* says that it is off"):
                client.on()


def test_credentials_of_one_url_are_for_no_other() -> None:
    with (
        serve_outlets(tasmota, outlets=1) as device,
        serve_outlets(tasmota, outlets=1) as other,
    ):
        power = HttpPower(
            power_on=HttpEndpoint(url=f"http://lab:s3cret@{device.address}/cm?cmnd=Power On"),
            power_off=HttpEndpoint(url=f"http://own:0ther@{device.address}/cm?cmnd=Power Off"),
            power_read=HttpEndpoint(
                url=f"http://{other.address}/cm?cmnd=Status%208", voltage_path="StatusSNS.ENERGY.Voltage"
            ),
        )
        with serve(power) as client:
            client.on()
            client.off()
            list(client.read())
    told = [asked.headers.get("authorization") for asked in [*device.asked, *other.asked]]
    assert told == [requests_auth("lab", "s3cret"), requests_auth("own", "0ther"), None]


def requests_auth(user: str, password: str) -> str:
    return str(requests.Request("GET", "http://x/", auth=(user, password)).prepare().headers["Authorization"])


@pytest.mark.parametrize("method", ["GET", "head"])
def test_data_is_not_sent_with_a_method_that_has_none(method: str) -> None:
    url = "http://10.0.0.7/"
    with pytest.raises(
        ValueError, match=r"power_on: there is data, which .* does not send; add `method: POST`"
    ):
        HttpPower(power_on=HttpEndpoint(url=url, method=method, data="on=1"), power_off=HttpEndpoint(url=url))


def test_a_state_with_too_few_digits_is_not_a_state_of_the_outlet() -> None:
    def model(device: WebOutlets, asked: Asked) -> Reply:
        return Reply('<div id="state">00</div>')

    with (
        serve_outlets(model) as device,
        serve(outlet(device, "digital-loggers", outlet=9)) as client,
        pytest.raises(
            DriverError, match="its answer has the states of 8 outlets; check `device` and `outlet`"
        ),
    ):
        client.on()


def test_without_a_state_to_ask_for_the_answer_is_enough() -> None:
    with serve_outlets(tasmota, outlets=1) as device, serve(generic(device)) as client:
        client.on()
        assert device.is_on[1]
        assert len(device.asked) == 1
        with pytest.raises(DriverMethodNotImplemented, match="has no `power_read`"):
            list(client.read())


def test_voltage_and_current_are_found_by_their_names_and_a_wrong_path_is_said() -> None:
    with serve_outlets(shelly_gen2, first=0) as device:
        url = f"http://{device.address}/rpc/Switch.GetStatus?id=0"
        with serve(generic(device, power_read=HttpEndpoint(url=url))) as client:
            assert list(client.read()) == [PowerReading(225.9, 0.05)]
        with (
            serve(generic(device, power_read=HttpEndpoint(url=url, voltage_path="emeter.voltage"))) as client,
            pytest.raises(DriverError, match=r"there is no number at 'emeter.voltage'"),
        ):
            list(client.read())


@pytest.mark.parametrize("login", ["basic", "digest", "bearer"])
def test_credentials_of_any_urls(login: str) -> None:
    with serve_outlets(shelly_gen1, first=0, login=login, password="secret") as device:
        auth = HttpAuth(**{login: HttpLogin(user="admin", password="secret")})
        url = f"http://{device.address}/relay/0?turn="
        power = HttpPower(
            power_on=HttpEndpoint(url=f"{url}on"),
            power_off=HttpEndpoint(url=f"{url}off"),
            auth=auth,
            timeout=2.0,
        )
        with serve(power) as client:
            client.on()
        assert device.is_on[0]


# --- configuration


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"device": "shely"}, "device is 'shely'; did you mean 'shelly'"),
        ({"host": "http://u:pw@10.0.0.7:x/"}, "host: an address such as 10.0.0.7"),
        ({"host": ""}, "host: an address such as"),
        ({"outlet": "0&turn=on"}, "outlet takes the number or the name"),
        ({"password": "a", "password_file": "b"}, "both password and password_file; leave one out"),
        ({"timeout": 0}, "timeout is 0; it takes seconds"),
        ({"outlet": -1}, "outlet is '-1'; the Shelly counts its outlets from 0 to 999"),
        ({"outlet": "a"}, "outlet is 'a'; the Shelly counts"),
        ({"device": "eth008", "outlet": 10**20}, "counts its outlets from 1 to 999"),
        ({"device": "tasmota", "outlet": 0}, "outlet is '0'; the Tasmota counts its outlets from 1 to 999"),
        ({"device": "gude", "outlet": 0}, "outlet is '0'; the Gude counts"),
        ({"device": "digital-loggers", "outlet": "a"}, "outlet is 'a'; the Digital Loggers"),
        (
            {"device": "digipower", "outlet": 25},
            "outlet is '25'; the Digipower counts its outlets from 1 to 24",
        ),
    ],
)
def test_a_wrong_configuration_is_one_sentence(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        HttpOutlet(**{"device": "shelly", "host": "10.0.0.7", **config})


@pytest.mark.parametrize("url", ["ftp://10.0.0.7/", "10.0.0.7/on", "http:///on"])
def test_a_url_that_is_none_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="power_off: "):
        HttpPower(power_on=HttpEndpoint(url="http://10.0.0.7/"), power_off=HttpEndpoint(url=url))


# --- who leaves


async def test_a_user_who_leaves_ends_the_request_and_the_outlet_stays_usable() -> None:
    with serve_outlets(shelly_gen1, first=0) as device:
        async with serve_async(outlet(device, "shelly-gen1", timeout=60.0)) as client:
            power = cast("PowerClient", client)
            device.faults = ["hang"]
            with trio.move_on_after(0.3):
                await power.on.aio()
            with trio.fail_after(5):
                await power.on.aio()
            assert device.is_on[0]


async def test_boards_of_one_device_are_served_one_after_the_other() -> None:
    with serve_outlets(shelly_gen1, first=0) as device:
        async with (
            serve_async(outlet(device, "shelly-gen1", outlet=0)) as first,
            serve_async(outlet(device, "shelly-gen1", outlet=1)) as second,
            trio.open_nursery() as nursery,
        ):
            for client in (first, second):
                nursery.start_soon(cast("PowerClient", client).on.aio)
        assert all(device.is_on.values())


def test_a_challenge_costs_no_more_than_its_length() -> None:
    credentials = HttpAuthenticator("digest", HttpCredentials("admin", "secret"))
    for words in ("a" * 60_000, "a=" * 30_000, 'a="' + "\\" * 60_000, "a" + " " * 60_000):
        assert not credentials.challenged([f"Digest {words}"])
