"""Mistyped commands: each gets one sentence with what to do and an exit code, and nothing is changed."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from jumpstarter_proto.errors import ExitCode

from tests.faults.controllers import Controller, controller
from tests.interop import exporters

pytestmark = pytest.mark.timeout(300)


@dataclass
class Desk:
    """A lab with a controller, two clients and an exporter that is not there; ann has a lease that waits."""

    home: Path
    lab: Controller

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [exporters.scripts() / command, *words],
            cwd=self.home,
            env=exporters.clean_environment(self.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def admin(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("jumpstarter-controller", "admin", *words, "--data", str(self.lab.data))


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="desk-") as path, controller(Path(path)) as lab:
        desk = Desk(Path(path), lab)
        for words in (
            ["client", "create", "ann", "--save", "ann.yaml"],
            ["client", "create", "bob", "--save", "bob.yaml"],
            ["exporter", "create", "one", "--label", "board=rpi4", "--save", "one.yaml"],
        ):
            done = desk.admin(*words)
            assert done.returncode == 0, done.stderr
        token = (desk.home / "ann.yaml").read_text()
        forged = desk.home / "forged.yaml"
        forged.write_text(token.replace("token: ", "token: x"))
        forged.chmod(0o600)
        lease = ["lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--no-wait"]
        done = desk.run("jumpstarter", *lease, "--client", "ann.yaml")
        assert done.returncode == 0, done.stderr
        yield desk


def sentence(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode not in {0, 130}, done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert words in lines[0], lines[0]
    assert lines[0].isprintable()
    assert len(lines[0]) < 500


def written(one: tuple[tuple[str, ...], str]) -> str:
    return " ".join(one[0]).encode("unicode_escape").decode()


CREATE = ("lease", "create", "-l", "board=rpi4", "--no-wait")
OF_A_CLIENT = [
    (("power", "on", "-l", "board=rpi4", "--client", "forged.yaml"), "failed to authenticate token"),
    (("power", "on", "--exporter-name", "nope"), "jumpstarter exporters; to wait until there is one"),
    (("power", "on", "-l", "board=nothing"), "no exporter matches board=nothing; see which there are"),
    (
        ("power", "on", "-l", "board=nothing"),
        "jumpstarter exporters; to wait until there is one, add --wait-for-board",
    ),
    (("power", "on", "-l", "board in ("), "write for example board=rpi4"),
    (("power", "on", "-l", "board=rpi4", "--duration", "-5m"), "write for example 30m"),
    (("power", "on", "-l", "board=rpi4", "--duration", "1e300"), "write for example 30m"),
    (("power", "on", "-l", "board=rpi4", "--duration", "99999d"), "at most 3650 days"),
    ((*CREATE, "--lease-id", "mine"), "already exists; choose another name"),
    ((*CREATE, "--lease-id", "a/b"), "not a valid name for a lease; use at most 63 letters"),
    ((*CREATE, "--lease-id", "a\x1b[2J"), "not a valid name for a lease; use at most 63 letters"),
    ((*CREATE, "--begin-time", "9999-01-01T00:00"), "check its year"),
    ((*CREATE, "--tag", "a/b=c"), "plain name of your own"),
    (("power", "on", "--lease", "nope"), "there is no lease nope; see which there are"),
    (("power", "on", "--lease", "mine", "--client", "bob.yaml"), "belongs to ann; ask"),
    (("lease", "release", "mine", "--client", "bob.yaml"), "permission denied: the lease is ann's"),
    (("lease", "extend", "mine", "5m", "--client", "bob.yaml"), "permission denied: the lease is ann's"),
    (("lease", "transfer", "mine", "bob"), "has not started yet; wait"),
    (("lease", "show", "x\x1b[31m"), "; see which there are"),
    (("exporters", "-l", "a b"), "write for example board=rpi4"),
]


@pytest.mark.parametrize(
    ("words", "expected"),
    OF_A_CLIENT,
    ids=map(written, OF_A_CLIENT),
)
def test_a_client(desk: Desk, words: tuple[str, ...], expected: str) -> None:
    client = () if "--client" in words else ("--client", "ann.yaml")
    sentence(desk.run("jumpstarter", *words, *client), expected)


def test_exit_codes(desk: Desk) -> None:
    for words, code in (
        (("power", "on", "-l", "board=rpi4", "--client", "forged.yaml"), ExitCode.DENIED),
        (("power", "on", "-l", "board in (", "--client", "ann.yaml"), ExitCode.USAGE),
        (("power", "on", "-l", "board=rpi4", "--duration", "99999d", "--client", "ann.yaml"), ExitCode.USAGE),
        (("power", "on", "--lease", "nope", "--client", "ann.yaml"), ExitCode.NOT_FOUND),
        (("lease", "release", "mine", "--client", "bob.yaml"), ExitCode.DENIED),
        (("power", "on", "--lease", "mine", "--client", "bob.yaml"), ExitCode.DENIED),
    ):
        done = desk.run("jumpstarter", *words)
        assert done.returncode == code, (words, done.stderr)


OF_AN_ADMINISTRATOR = [
    (("client", "create", "ann", "--save", "x.yaml"), "the client default/ann exists already; rotate"),
    (("client", "create", "a/b", "--save", "x.yaml"), "is not a name; it has letters"),
    (("client", "create", "a\x1b[2J", "--save", "x.yaml"), "is not a name; it has letters"),
    (("client", "create", "zoe", "--save", "nowhere/x.yaml"), "choose another place"),
    (("client", "create", "zoe", "--save", "."), "choose another place"),
    (("client", "rotate", "ann", "--save", "nowhere/x.yaml"), "choose another place"),
    (("client", "delete", "nope"), "there is no client default/nope; see which there are"),
    (("exporter", "disable", "nope"), "there is no exporter default/nope; see which there are"),
    (("exporter", "create", "two", "--label", "x", "--save", "x.yaml"), "write it as KEY=VALUE"),
    (("exporter", "create", "two", "--label", "x=a b", "--save", "x.yaml"), "it has letters"),
]


@pytest.mark.parametrize(
    ("words", "expected"),
    OF_AN_ADMINISTRATOR,
    ids=map(written, OF_AN_ADMINISTRATOR),
)
def test_an_administrator(desk: Desk, words: tuple[str, ...], expected: str) -> None:
    before = desk.admin("client", "list").stdout, (desk.home / "ann.yaml").read_text()
    sentence(desk.admin(*words), expected)
    assert (desk.admin("client", "list").stdout, (desk.home / "ann.yaml").read_text()) == before
    assert not (desk.home / "x.yaml").exists()
    # Its token still counts.
    assert desk.run("jumpstarter", "lease", "list", "--client", "ann.yaml").returncode == 0


def test_a_list_of_nothing_says_how_there_comes_to_be_something(desk: Desk) -> None:
    listed = desk.admin("exporter", "list", "--namespace", "nobodys")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert listed.stderr == "no exporters; `jumpstarter-controller admin pair exporter NAME` lets one in\n"
    assert desk.admin("exporter", "list", "--namespace", "nobodys", "-o", "name").stderr == ""


def test_a_controller(desk: Desk) -> None:
    free = f"127.0.0.1:{exporters.free_port()}"
    for words, expected in (
        (("--data", str(desk.lab.data), "--listen", free), "another controller uses"),
        (
            ("--data", "d", "--listen", desk.lab.endpoint),
            "Address already in use; choose another address with --listen",
        ),
        (("--data", "d", "--listen", "xyz"), "write [HOST]:PORT such as"),
        (("--data", "d", "--listen", "127.0.0.1:70000"), "write [HOST]:PORT such as"),
        (("--data", "ann.yaml", "--listen", free), "choose another with --data"),
        (("--data", "d", "--listen", free, "--max-leases", "0"), "--max-leases"),
        (("--data", "d", "--listen", free, "--tls-cert", "ann.yaml"), "belong together; give both"),
        (
            ("--data", "d", "--listen", free, "--tls-cert", "ann.yaml", "--tls-key", "ann.yaml"),
            "give both as PEM",
        ),
    ):
        sentence(desk.run("jumpstarter-controller", "run", *words), expected)
    listed = desk.run("jumpstarter-controller", "admin", "client", "list", "--data", "nobody")
    sentence(listed, "has not run yet")
    assert not (desk.home / "nobody").exists()
