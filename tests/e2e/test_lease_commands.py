"""`jumpstarter lease …` with a controller, an exporter and two users."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.support import lab as support


@pytest.fixture(scope="module")
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        lab.exporter("one")
        yield lab


@pytest.fixture(scope="module")
def ann(lab: Lab) -> Path:
    return lab.client("ann")


@pytest.fixture(scope="module")
def bob(lab: Lab) -> Path:
    return lab.client("bob")


@pytest.fixture(autouse=True)
def _nobody_has_it_afterwards(lab: Lab, ann: Path, bob: Path) -> Iterator[None]:
    yield
    for client in (ann, bob):
        lab.ok("lease", "release", "--all", "--client", client)
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def make(lab: Lab, client: Path, *words: str) -> str:
    return lab.ok("lease", "create", "-l", "board=rpi4", *words, "-o", "name", "--client", client).strip()


def test_a_lease_from_its_creation_to_its_release(lab: Lab, ann: Path) -> None:
    made = lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--tag", "run=7", "--client", ann)
    assert made == "mine: one is yours; use it with: jumpstarter shell --lease mine\n"
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
    shown = lab.ok("lease", "show", "mine", "--client", ann)
    assert "ready: one is leased" in shown
    assert "run=7" in shown
    assert "condition:  Ready (Ready): exporter one is leased, since 20" in shown
    assert "Pending" not in shown, shown
    listed = lab.ok("leases", "ls", "--client", ann).splitlines()
    assert listed[0].split() == [
        "NAME",
        "SELECTOR",
        "BEGINS",
        "EXPIRES",
        "REMAINING",
        "CLIENT",
        "EXPORTER",
        "STATE",
    ]
    assert listed[1].startswith("mine  (exporter one)  20")
    assert listed[1].endswith("ann     one       ready")
    assert lab.ok("get", "leases", "--tag-filter", "run=7", "-o", "name", "--client", ann) == "mine\n"
    assert lab.ok("lease", "list", "--tag-filter", "run=8", "-o", "name", "--client", ann) == ""
    assert lab.ok("delete", "leases", "mine", "--client", ann) == "mine is released\n"
    assert lab.leases(ann) == {}
    ended = lab.leases(ann, "-a")["mine"]
    assert (ended["state"], ended["reason"]) == ("ended", "it was released")
    code, sentence = lab.refused("power", "on", "--lease", "mine", "--client", ann)
    assert (code, "has ended" in sentence) == (4, True), sentence


def test_time_is_added_or_said_as_a_whole(lab: Lab, ann: Path) -> None:
    name = make(lab, ann, "--duration", "1h")
    lab.ok("lease", "extend", name, "30m", "--client", ann)
    assert lab.leases(ann)[name]["duration"] == 5400
    lab.ok("lease", "extend", "--by", "1h", "--client", ann, JMP_LEASE=name)
    assert lab.leases(ann)[name]["duration"] == 9000
    lab.ok("lease", "extend", name, "--total", "2h", "--client", ann)
    assert 7100 < lab.leases(ann)[name]["remaining"] <= 7200
    lab.ok("update", "lease", name, "--duration", "3h", "--client", ann)
    assert lab.leases(ann)[name]["duration"] == 10800
    code, sentence = lab.refused("lease", "extend", name, "--duration", "10m", "--client", ann)
    assert (code, f"for more time: jumpstarter lease extend {name[-8:]} 10m; " in sentence) == (2, True), (
        sentence
    )
    code, sentence = lab.refused("lease", "extend", "10m", "--duration", "5m", "--client", ann)
    assert (code, "use one of them" in sentence) == (2, True), sentence
    lab.ok("lease", "extend", name, "--duration", "4h", "--client", ann)
    assert lab.leases(ann)[name]["duration"] == 14400
    code, sentence = lab.refused("lease", "extend", "12345678", "--client", ann)
    assert (code, "lease extend 12345678 30m" in sentence) == (2, True), sentence
    code, sentence = lab.refused("lease", "extend", name, "--client", ann)
    assert (code, "no time given" in sentence) == (2, True), sentence


def test_who_waits_sees_their_place_and_gets_it_in_turn(lab: Lab, ann: Path, bob: Path) -> None:
    name = make(lab, ann)
    code = lab.start("lease", "create", "-l", "board=rpi4", "--client", bob)
    lab.until(lambda: len(lab.leases(ann)) == 2)
    waiting = next(one for one in lab.leases(bob).values() if one["client"] == "bob")
    assert waiting["state"] == "waiting"
    assert "next in the queue, at the latest in 30 min" in waiting["reason"]
    assert "waiting: all exporters" in lab.ok("lease", "list", "--client", bob)
    lab.ok("lease", "release", name, "--client", ann)
    out, err = code.communicate(timeout=LIMIT)
    assert out.startswith(f"{waiting['name'][-8:]}: one is yours; use it with: "), err
    assert err.startswith("Waiting for a board: all exporters that it may have are leased; next in the queue")


def test_a_command_uses_the_lease_that_was_created_for_it(lab: Lab, ann: Path) -> None:
    name = make(lab, ann)
    short = name[-8:]
    command = ("power", "on", "rpi4", "-l", "board=rpi4", "--client", ann)
    done = lab.run(*command)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"using your lease {short} of one, which ends in "), done.stderr
    done = lab.run(*command, "--new", "--acquisition-timeout", "5s")
    assert done.returncode == 5 or "no board became available" in done.stderr, done.stderr
    assert f"are leased, one by you (lease {short})" in done.stderr
    lab.ok("power", "on", "rpi4", "--lease", short, "--client", ann)
    assert f"name:       {name}" in lab.ok("lease", "show", "--client", ann)
    assert short in lab.ok("lease", "list", "--client", ann)
    assert lab.ok("lease", "extend", "30m", "--client", ann).startswith(f"{short}: ready")
    assert lab.leases(ann)[name]["duration"] == 3600
    assert lab.ok("lease", "release", "--client", ann) == f"{name} is released\n"
    lab.ok(*command)
    assert lab.ok("lease", "release", "--all", "--client", ann) == "there is no lease to release\n"
    assert lab.run("lease", "show", "nope", "--client", ann).stderr == (
        "error: there is no lease nope; see which there are: jumpstarter lease list\n"
    )


def test_a_command_that_names_no_board_uses_the_only_lease_where_there_is_no_exporter(
    lab: Lab, ann: Path
) -> None:
    assert "there is no exporter configuration" in lab.run("power", "on", JMP_CLIENT_CONFIG=ann).stderr
    name = make(lab, ann)
    said = f"using your lease {name[-8:]} of one, which ends in "
    done = lab.run("power", "on", JMP_CLIENT_CONFIG=ann)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.endswith("; to lease another board: -l SELECTOR\n"), done.stderr
    done = lab.run("shell", "--", "sh", "-c", "echo $JMP_LEASE", JMP_CLIENT_CONFIG=ann)
    assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr
    assert done.stderr.startswith(said), done.stderr


def test_ctrl_c_gives_up_what_is_waited_for(lab: Lab, ann: Path, bob: Path) -> None:
    make(lab, ann)
    waiting = Reader(lab.start("lease", "create", "-l", "board=rpi4", "--client", bob))
    lab.until(lambda: "Waiting for a board: all " in waiting.text["err"])
    assert len(lab.leases(ann)) == 2
    waiting.process.send_signal(signal.SIGINT)
    code, _, err = waiting.end()
    assert code == 130
    assert err.count("\n") == 1, err
    assert [one["client"] for one in lab.leases(ann).values()] == ["ann"]


def test_no_wait_stands_in_the_queue_alone_and_patience_has_an_end(lab: Lab, ann: Path, bob: Path) -> None:
    make(lab, ann)
    made = lab.ok("lease", "create", "-n", "one", "--no-wait", "--client", bob)
    assert ": waiting: " in made
    code, sentence = lab.refused(
        "lease", "create", "-n", "one", "--acquisition-timeout", "1", "--client", bob
    )
    assert code == 6
    assert "no board became available within 1s" in sentence
    assert len(lab.leases(ann)) == 2, "who waits no more stands in no queue"


def test_a_lease_for_later_is_not_waited_for(lab: Lab, ann: Path) -> None:
    year = datetime.datetime.now(datetime.UTC).year + 1
    made = lab.ok(
        *("lease", "create", "-n", "one", "--begin-time", f"{year}-01-31T08:00", "--duration", "4h"),
        *("-o", "json", "--client", ann),
    )
    lease = json.loads(made)
    assert lease["state"] == "scheduled"
    assert lease["begin_time"].startswith(f"{year}-01-3")
    assert f"begins:     {year}-01-31 08:00:00" in lab.ok("lease", "show", lease["name"], "--client", ann)


def test_what_an_update_does_not_name_stays(lab: Lab, ann: Path, bob: Path) -> None:
    year = datetime.datetime.now(datetime.UTC).year + 1
    made = lab.ok(
        *("lease", "create", "-n", "one", "--begin-time", f"{year}-01-31T08:00+00:00", "--duration", "4h"),
        *("--context", "job=7", "--tag", "a=1", "--tag", "b=2", "--allow-disabled", "-o", "json"),
        *("--client", ann),
    )
    lease = json.loads(made)
    assert (lease["tags"], lease["context"]) == ({"a": "1", "b": "2"}, {"job": "7"})
    assert (lease["allow_disabled"], lease["exporter_name"]) == (True, "one")
    update = ("lease", "update", lease["name"], "--client", ann)
    said = lab.ok(*update, "--begin-time", f"{year}-02-01T09:30+00:00")
    assert said.startswith(f"{lease['name'][-8:]}: scheduled: it has not started yet, until {year}-02-01 ")
    found = lab.leases(ann)[lease["name"]]
    assert (found["begin_time"], found["duration"]) == (f"{year}-02-01T09:30:00+00:00", 14400)
    lab.ok(*update, "--duration", "2h")
    found = lab.leases(ann)[lease["name"]]
    assert (found["begin_time"], found["duration"]) == (f"{year}-02-01T09:30:00+00:00", 7200)
    assert (found["client"], found["tags"]) == ("ann", {"a": "1", "b": "2"})
    name = make(lab, ann)
    lab.ok("lease", "update", name, "--duration", "2h", "--to-client", "bob", "--client", ann)
    found = lab.leases(ann)[name]
    assert (found["client"], found["duration"]) == ("bob", 7200)
    given = ("lease", "transfer", "ann", "--client", bob)
    assert lab.ok(*given, JMP_LEASE=name) == f"{name[-8:]} now belongs to ann\n"


def test_only_leases_that_are_meant_and_ones_own_are_listed_and_released(
    lab: Lab, ann: Path, bob: Path
) -> None:
    one, two, three = (make(lab, ann, "--no-wait", "--tag", f"run={run}") for run in (1, 2, 3))
    theirs = make(lab, bob, "--no-wait", "--tag", "run=1")
    listed = ("lease", "list", "-o", "name", "--client", ann)
    assert set(lab.ok(*listed).split()) == {one, two, three}
    assert set(lab.ok(*listed, "-A").split()) == {one, two, three, theirs}
    assert lab.ok(*listed, "-l", "board=none") == ""
    release = ("lease", "release", "--client", ann)
    assert lab.ok(*release, "--tag-filter", "run=1") == f"{one} is released\n"
    code, sentence = lab.refused(*release, two, "--all")
    assert (code, "not both" in sentence) == (2, True), sentence
    assert lab.ok(*release, "-o", "name", JMP_LEASE=two) == f"{two}\n"
    assert lab.ok(*release, "-l", "board=rpi4") == f"{three} is released\n"
    assert lab.ok(*release, "--all") == "there is no lease to release\n"
    assert list(lab.leases(ann)) == [theirs]
    assert set(lab.ok(*listed, "-a").split()) >= {one, two, three}


def test_of_several_leases_all_that_can_be_are_released(lab: Lab, ann: Path, bob: Path) -> None:
    mine = [make(lab, ann, "--no-wait") for _ in range(2)]
    theirs = make(lab, bob, "--no-wait")
    done = lab.run("lease", "release", mine[0], theirs, "nobodys", mine[1], "--client", ann)
    assert done.stdout.splitlines() == [f"{name} is released" for name in mine]
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert "the lease is bob's" in done.stderr
    assert "there is no lease nobodys" in done.stderr
    assert list(lab.leases(ann)) == [theirs]


def test_a_client_alone_means_its_only_lease(lab: Lab, ann: Path, bob: Path) -> None:
    code, sentence = lab.refused("power", "on", "rpi4", "--client", ann)
    assert (code, "ann has no lease" in sentence) == (2, True), sentence
    name = make(lab, ann)
    theirs = make(lab, bob, "--no-wait")
    lab.ok("power", "on", "rpi4", "--client", ann)
    assert set(lab.leases(ann)) == {name, theirs}, "both are left as they are"
    lab.ok("lease", "release", theirs, "--client", bob)
    other = lab.ok("lease", "create", "-n", "one", "--no-wait", "-o", "name", "--client", ann).strip()
    code, sentence = lab.refused("power", "on", "rpi4", "--client", ann)
    assert (code, f"{name[-8:]} (one), {other[-8:]} (waiting)" in sentence) == (2, True), sentence


def test_a_lease_changes_hands(lab: Lab, ann: Path, bob: Path) -> None:
    name = make(lab, ann)
    assert lab.ok("lease", "transfer", name, "bob", "--client", ann) == f"{name[-8:]} now belongs to bob\n"
    lab.ok("power", "on", "rpi4", "--lease", name, "--client", bob)
    code, sentence = lab.refused("lease", "release", name, "--client", ann)
    assert (code, "the lease is bob's" in sentence) == (5, True), sentence
    code, sentence = lab.refused("lease", "transfer", name, "carl", "--client", bob)
    assert (code, "carl" in sentence) == (3, True), sentence


def test_completion_asks_the_controller_for_names(lab: Lab, ann: Path, bob: Path) -> None:
    name = make(lab, ann)
    for words, found in {
        ("lease", "show"): {name},
        ("leases", "release", name): {name},
        ("power", "on", "--lease"): {name},
        ("shell", "-n"): {"one"},
        ("shell", "--exporter"): {"one"},
        ("power", "on", "-l"): {"board=rpi4"},
    }.items():
        lab.until(lambda: set(lab.ok("__complete", *words, JMP_CLIENT_CONFIG=ann).split()) == found)  # noqa: B023
    assert lab.ok("__complete", "--client", bob, "lease", "show") == "", "it is not theirs"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("create",), 2, "no board selected"),
        (("create", "-l", "board=none"), 4, "no exporter matches board=none"),
        (("create", "-n", "none"), 4, "there is no exporter none"),
        (("create", "-n", "one", "--duration", "soon"), 2, "is not a duration"),
        (("create", "-n", "one", "--begin-time", "soon"), 2, "invalid time"),
        (("create", "-n", "one", "--tag", "x"), 2, "KEY=VALUE"),
        (("create", "-n", "one", "--tags", "x=y"), 2, "did you mean '--tag'"),
        (("show",), 2, "ann has no lease"),
        (("extend", "x", "--by", "1h", "--total", "2h"), 2, "use one of them"),
        (("create", "-l", "board=\udcff"), 2, "board=\\udcff is not text in UTF-8; type it again"),
        (("update", "x"), 2, "changes --duration, --begin-time or --to-client"),
        (("transfer",), 2, "no client named"),
        (("transfer", "x"), 2, "ann has no lease"),
        (("list", "-a", "--watch"), 2, "remove -a"),
        (("list", "--watch", "-o", "yaml"), 2, "--watch supports -o json only"),
        (("show", "none"), 3, "there is no lease none"),
        (("release", "-l", "board=none"), 3, "none of your leases matches"),
        (("releese",), 2, "did you mean 'release'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    lab: Lab, ann: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    ended, said = lab.refused("lease", *words, "--client", ann)
    assert sentence in said
    assert (ended, said.count("\n")) == (code, 1), said


def test_a_second_ctrl_c_waits_for_no_controller() -> None:
    with Lab.opened() as lab:
        ann = lab.client("ann")
        lab.exporter("one")
        make(lab, ann)
        waiting = lab.start("lease", "create", "-n", "one", "--client", ann)
        lab.until(lambda: len(lab.leases(ann)) == 2)
        lab.kill_controller()
        for _ in range(2):  # as when a wrapper passes on what the terminal has sent to both
            waiting.send_signal(signal.SIGINT)
            time.sleep(0.2)
        with pytest.raises(subprocess.TimeoutExpired):  # it would give the lease back
            waiting.wait(2)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=10)
        assert waiting.returncode == 130
        assert "stopped immediately" in said


def test_a_board_that_its_hook_refuses_is_given_back_though_nobody_is_there(lab: Lab, ann: str) -> None:
    hook = "hooks:\n  beforeLease: {script: 'exit 3', onFailure: endLease}\n"
    lab.exporter("refuses", label="board=refuses", hooks=hook)
    lab.ok("lease", "create", "-n", "refuses", "--lease-id", "refused", "--client", ann)
    lab.until(lambda: lab.leases(ann, "-a")["refused"]["state"] == "ended")
    reason = lab.leases(ann, "-a")["refused"]["reason"]
    assert reason == "beforeLease hook failed (on_failure=endLease): Hook failed with exit code 3"
    lab.until(lambda: lab.status("refuses") == "AVAILABLE")
