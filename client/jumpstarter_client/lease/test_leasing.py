"""What a lease's conditions, a user's words and a configuration mean."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.v1 import kubernetes_pb2
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_client.controller.lease_view import (
    LeasePhase,
    as_data,
    describe,
    expiry,
    lease_progress,
    lease_status,
    remaining,
)
from jumpstarter_client.identity.client_config import ClientConfigError, load
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.times import TimeFormatError, format_duration, format_time, parse_duration, parse_time


def lease(*conditions: tuple[str, str], exporter: str = "") -> client_pb2.Lease:
    return client_pb2.Lease(
        name="namespaces/lab/leases/one",
        exporter=exporter,
        conditions=[
            kubernetes_pb2.Condition(type=kind, status=status, message=kind) for kind, status in conditions
        ],
    )


@pytest.mark.parametrize(
    ("given", "stage", "message"),
    [
        (lease(), LeasePhase.WAITING, "waiting"),
        (lease(("Pending", "True")), LeasePhase.WAITING, "Pending"),
        (
            lease(("Pending", "True"), ("Ready", "True"), exporter="namespaces/lab/exporters/e"),
            LeasePhase.READY,
            "",
        ),
        (lease(("Ready", "True")), LeasePhase.WAITING, "waiting"),
        (
            lease(("Pending", "True"), ("Unsatisfiable", "True")),
            LeasePhase.FAILED,
            "cannot be satisfied: Unsatisfiable",
        ),
        (lease(("Invalid", "True")), LeasePhase.FAILED, "is invalid: Invalid"),
        (lease(("Ready", "False")), LeasePhase.FAILED, "lease one has ended"),
    ],
)
def test_conditions(given: client_pb2.Lease, stage: LeasePhase, message: str) -> None:
    progress = lease_progress(given)
    assert progress.phase is stage
    assert message in progress.message
    assert progress.exporter == ("e" if stage is LeasePhase.READY else "")


def test_an_ended_lease_without_conditions_has_failed() -> None:
    given = lease()
    given.effective_end_time.GetCurrentTime()
    assert lease_progress(given).phase is LeasePhase.FAILED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1d", 86400),
        ("01:30:00", 5400),
        ("PT1H30M", 5400),
        ("P1D", 86400),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "30x", "m30", "P", "PT"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(TimeFormatError, match="30m"):
        parse_duration(text)


def test_moments_and_how_durations_are_read() -> None:
    assert parse_time("2027-01-31T08:00+01:00").timestamp() == 1801378800
    assert parse_time("2027-01-31T08:00").tzinfo is not None
    for text in ("tomorrow", "08:00", ""):
        with pytest.raises(TimeFormatError, match="2027-01-31"):
            parse_time(text)
    written = {0.4: "0s", 59: "59s", 61: "1m", 5400: "1h30m", 7200: "2h", 183900: "2d3h", -5: "0s"}
    assert {given: format_duration(given) for given in written} == written


def test_nothing_is_wanted_unless_somebody_says_so() -> None:
    assert LeaseRequest.from_options({}) is None
    assert LeaseRequest.from_options({"JMP_LEASE": "x"}) == LeaseRequest(lease="x")
    assert LeaseRequest.from_options({"JMP_LEASE": "x"}, selector="a=b") == LeaseRequest(selector="a=b")


FILE = """
kind: ClientConfig
metadata: {namespace: lab, name: ann}
endpoint: lab.example:8082
token: secret
tls: {ca: "", insecure: true}
"""


def test_files_aliases_and_the_environment(tmp_path: Path) -> None:
    home = {"JMP_CLIENT_CONFIG_HOME": str(tmp_path)}
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "ann.yaml").write_text(FILE)
    config = load("ann", home)
    assert (config.endpoint, config.identity.name, config.trust.insecure) == ("lab.example:8082", "ann", True)
    assert load(str(tmp_path / "clients" / "ann.yaml"), {}) == config
    with pytest.raises(ClientConfigError, match="--client FILE"):
        load(None, home)
    (tmp_path / "config.yaml").write_text("config: {current-client: ann}\n")
    assert load(None, home) == config
    own = {"JMP_NAMESPACE": "n", "JMP_NAME": "bob", "JMP_ENDPOINT": "h:1", "JMP_TOKEN": "t"}
    assert load(None, home | own).identity.name == "bob"
    with pytest.raises(ClientConfigError, match="JMP_TOKEN"):
        load(None, {key: value for key, value in own.items() if key != "JMP_TOKEN"})


@pytest.mark.parametrize(
    "text", ["[]", "kind: ExporterConfig", "metadata: x", "a: [", FILE.replace("token: secret", "")]
)
def test_invalid_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises((ClientConfigError, ConfigError), match=r"x\.yaml"):
        load(str(path), {})
    with pytest.raises(ClientConfigError, match="no configuration"):
        load(str(tmp_path / "none.yaml"), {})


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((("Unsatisfiable", "True", "no such board"),), ("unsatisfiable", "no such board")),
        (
            (("Pending", "True", "all are leased"), ("Unsatisfiable", "False", "no such board")),
            ("waiting", "all are leased"),
        ),
        (
            (("Pending", "True", "all are leased"), ("Invalid", "False", "no selector")),
            ("waiting", "all are leased"),
        ),
        (
            (("Pending", "True", "all are leased"), ("Ready", "False", "ann has released it")),
            ("ended", "ann has released it"),
        ),
    ],
)
def test_how_a_lease_stands_is_what_holds_now_and_why_it_ended_what_was_said_of_that(
    conditions: tuple[tuple[str, str, str], ...], expected: tuple[str, str]
) -> None:
    lease = client_pb2.Lease()
    for kind, status, message in conditions:
        lease.conditions.append(kubernetes_pb2.Condition(type=kind, status=status, message=message))
    found = lease_status(lease, 1000.0)
    assert (found.state, found.sentence) == expected


def test_times_of_a_lease_are_seconds_and_fractions_of_them() -> None:
    lease = client_pb2.Lease()
    lease.effective_begin_time.FromNanoseconds(1_000_500_000_000)
    lease.duration.FromMilliseconds(60_250)
    assert expiry(lease) == 1060.75
    assert remaining(lease, 1030.5) == 30.25
    lease.effective_duration.FromMilliseconds(20_125)
    assert remaining(lease, 5.0) == 40.125, "by the controller's clock"
    lease.effective_end_time.FromNanoseconds(1_040_250_000_000)
    assert (expiry(lease), remaining(lease, 1030.5)) == (1040.25, None)


@pytest.mark.parametrize("zone", ["UTC0", "EAST-14", "WEST+12"])
def test_a_moment_later_than_all_that_can_be_written_is_written_as_the_last_day(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a lease of 10,000 years, which another's tool may have made: a list of leases has to go on."""
    try:
        with monkeypatch.context() as here:
            here.setenv("TZ", zone)
            time.tzset()
            assert format_time(2e9 + 315_576_000_000.0) == format_time(253_402_300_800.0)
            assert format_time(253_402_300_800.0).startswith("9999-12-3")
    finally:
        time.tzset()


def held() -> client_pb2.Lease:
    """Asked for at 100, begun at 200 for an hour."""
    lease = client_pb2.Lease(
        name="namespaces/lab/leases/one",
        selector="board=rpi4",
        exporter_name="desk",
        exporter="namespaces/lab/exporters/desk",
        client="namespaces/lab/clients/ann",
        tags={"b": "2", "a": "1"},
        context={"job": "7"},
        allow_disabled=True,
    )
    lease.duration.FromSeconds(3600)
    lease.begin_time.FromSeconds(100)
    lease.effective_begin_time.FromSeconds(200)
    ready = lease.conditions.add(type="Ready", status="True", reason="Leased", message="it is yours")
    ready.lastTransitionTime.seconds = 201
    lease.conditions.add(type="Pending", status="False", reason="Done")
    return lease


def test_everything_about_a_lease_is_in_lines_for_people() -> None:
    lease = held()
    assert describe(lease, 500.0) == [
        "name:       one",
        "state:      ready: desk is leased",
        "client:     ann",
        "exporter:   desk",
        "asked for:  board=rpi4; exporter desk; also disabled exporters",
        "duration:   1h",
        f"begun:      {format_time(200)}",
        f"ends:       {format_time(3800)}, in 55m",
        "tag:        a=1",
        "tag:        b=2",
        "context:    job=7",
        f"condition:  Ready (Leased): it is yours, since {format_time(201)}",
        "condition:  not Pending (Done): Done",
    ]
    lease.effective_end_time.FromSeconds(300)
    assert f"ended:      {format_time(300)}" in describe(lease, 500.0)
    waiting = client_pb2.Lease(name="namespaces/lab/leases/two", selector="<none>", exporter_name="desk")
    waiting.duration.FromSeconds(60)
    waiting.begin_time.FromSeconds(1000)
    assert describe(waiting, 500.0) == [
        "name:       two",
        "state:      scheduled: it has not started yet",
        "asked for:  exporter desk",
        "duration:   1m",
        f"begins:     {format_time(1000)}",
        f"ends:       {format_time(1060)}",
    ]
    assert lease_status(waiting, 1000.0).state == "waiting"


def test_everything_about_a_lease_is_there_for_scripts() -> None:
    lease = held()
    found = as_data(lease, 500.0)
    assert found == {
        "namespace": "lab",
        "name": "one",
        "state": "ready",
        "reason": "desk is leased",
        "selector": "board=rpi4",
        "exporter_name": "desk",
        "client": "ann",
        "exporter": "desk",
        "duration": 3600.0,
        "begin_time": "1970-01-01T00:01:40+00:00",
        "effective_begin_time": "1970-01-01T00:03:20+00:00",
        "effective_end_time": None,
        "effective_duration": None,
        "remaining": 3300.0,
        "tags": {"a": "1", "b": "2"},
        "context": {"job": "7"},
        "allow_disabled": True,
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Leased", "message": "it is yours"},
            {"type": "Pending", "status": "False", "reason": "Done", "message": ""},
        ],
    }
    lease.effective_end_time.FromSeconds(300)
    lease.effective_duration.FromSeconds(100)
    lease.selector, lease.exporter_name = "<none>", ""
    ended = as_data(lease, 500.0)
    keys = ("effective_end_time", "effective_duration", "remaining", "selector", "exporter_name")
    assert [ended[key] for key in keys] == ["1970-01-01T00:05:00+00:00", 100.0, None, "", None]
