"""A token that the controller rejects: the sentence names a way to a new one, and that way works."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.lab import Lab
from tests.support import lab as support
from tests.support.administration import administer


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


@pytest.fixture
def ann(lab: Lab) -> Path:
    """The current configuration of this user."""
    lab.ok("login", *_pinned(lab), "--pairing-code", JMP_PAIRING_CODE=_code(lab, "ann"))
    return lab.home / ".config" / "jumpstarter" / "clients" / "ann.yaml"


def _offer(lab: Lab, name: str, *words: str) -> dict[str, str]:
    offer: dict[str, str] = json.loads(lab.admin("pair", "client", name, *words, "-o", "json"))
    return offer


def _code(lab: Lab, name: str, *words: str) -> str:
    return _offer(lab, name, *words)["code"]


def _pinned(lab: Lab) -> tuple[str, str, str]:
    offer = _offer(lab, "somebody")
    return offer["endpoint"], "--tls-fingerprint", offer["fingerprint"]


def _follow(lab: Lab, sentence: str) -> None:
    """Do as it says: the administrator's command, and then the user's."""
    made, login = re.findall(r"`(jumpstarter-controller .*?)`\), and you use it: (.*)\n", sentence)[0]
    done = administer(lab.data, *shlex.split(made)[2:], "-o", "json")
    assert done.returncode == 0, done.stderr
    lab.ok(*shlex.split(login)[1:], JMP_PAIRING_CODE=json.loads(done.stdout)["code"])


@pytest.mark.parametrize("words", [("exporters",), ("power", "on", "-l", "board=none"), ("auth", "rotate")])
def test_a_token_that_was_replaced(lab: Lab, ann: Path, words: tuple[str, ...]) -> None:
    lab.admin("client", "rotate", "ann", "--save", lab.home / "elsewhere.yaml")
    code, said = lab.refused(*words)
    assert code == 5
    assert said == (
        f"error: permission denied for client {lab.namespace}/ann: this token was replaced by a new one; the lab's "
        f"administrator makes a code (`jumpstarter-controller admin pair client ann --namespace {lab.namespace} "
        "--renew`), and you use it: jumpstarter login --pairing-code\n"
    )
    ann.write_text(f"# mine\n{ann.read_text()}")
    _follow(lab, said)
    lab.ok("exporters")
    assert ann.read_text().startswith("# mine\n")


def test_the_status_of_a_replaced_token_in_a_file_elsewhere(lab: Lab) -> None:
    bob = lab.client("bob")
    lab.admin("client", "rotate", "bob", "--save", lab.home / "elsewhere.yaml")
    done = lab.run("auth", "status", "--client", bob)
    assert done.returncode == 5
    assert f"and you use it: jumpstarter login --client {bob} --pairing-code\n" in done.stdout
    _follow(lab, done.stdout)
    assert "accepted:    yes\n" in lab.ok("auth", "status", "--client", bob)


def test_a_token_of_another_client(lab: Lab) -> None:
    bob = lab.client("bob")
    bob.write_text(bob.read_text().replace("name: bob", "name: carl"))
    lab.client("carl", "--label", "of=ours")
    _, said = lab.refused("exporters", "--client", bob)
    assert (
        f"permission denied for client {lab.namespace}/carl: this token is that of {lab.namespace}/bob; "
        in said
    )


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("abc.def", "failed to authenticate token: it is damaged"),
        ("eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.abc.x", "failed to authenticate token: it is damaged"),
        ("", "`token` is missing"),
    ],
)
def test_a_damaged_token_leads_to_a_login_without_an_address(
    lab: Lab, ann: Path, token: str, reason: str
) -> None:
    good = yaml.safe_load(ann.read_text())
    ann.write_text(ann.read_text().replace(good["token"], token or '""'))
    _, said = lab.refused("exporters")
    assert reason in said
    assert "jumpstarter login" in said
    assert "HOST:PORT" not in said
    _, said = lab.refused("auth", "refresh")
    assert "jumpstarter login" in said
    for words in (("login",), ("login", "--client", "ann")):
        _, said = lab.refused(*words)
        assert said.startswith(
            f"error: {good['endpoint']} accepts no OpenID provider; the lab's administrator makes"
        )
    _follow(lab, said)
    lab.ok("exporters")
    again = yaml.safe_load(ann.read_text())
    assert again | {"token": ""} == good | {"token": ""}, "only the token is another"


def test_a_token_alone_needs_no_address_either(lab: Lab, ann: Path) -> None:
    token = yaml.safe_load(ann.read_text())["token"]
    (lab.home / "token").write_text(token)
    ann.write_text(ann.read_text().replace(token, "abc"))
    assert lab.ok("login", "--token-file", "token").startswith(f"{ann}: client {lab.namespace}/ann of ")
    assert yaml.safe_load(ann.read_text())["token"] == token


def test_a_code_for_another_client_makes_a_configuration_of_its_own(lab: Lab, ann: Path) -> None:
    before = ann.read_text()
    shown = lab.ok("login", "--pairing-code", JMP_PAIRING_CODE=_code(lab, "bob"))
    assert shown.startswith(f"{ann.with_name('bob.yaml')}: client {lab.namespace}/bob of ")
    assert ann.read_text() == before
    lab.ok("exporters", "--client", "bob")


def test_a_wrong_code_names_the_whole_command_for_a_new_one(lab: Lab, ann: Path) -> None:
    assert ann.exists()
    _, said = lab.refused("login", "--pairing-code", JMP_PAIRING_CODE="AAAA-BBBB-CCCC")
    assert said == (
        "error: this pairing code is wrong, used, expired or for something else; the lab's administrator makes a new "
        "one: jumpstarter-controller admin pair client NAME, with --renew for one that exists\n"
    )


def test_an_address_with_a_name_and_an_option_as_in_jmp(lab: Lab) -> None:
    endpoint, *pin = _pinned(lab)
    _, said = lab.refused("login", f"ann@{endpoint}", *pin)
    login = f"jumpstarter login {endpoint} {' '.join(pin)}"
    assert said == (
        f"error: {endpoint} accepts no OpenID provider; log in with a code from the lab's administrator: {login} "
        f"--pairing-code, or with a token: {login} --name ann\n"
    )
    token = yaml.safe_load(lab.client("ann").read_text())["token"]
    words = ("login", "--endpoint", endpoint, "--namespace", lab.namespace, "--name", "ann", *pin)
    assert f"client {lab.namespace}/ann of {endpoint}" in lab.ok(*words, JMP_TOKEN=token)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("lab:1", "--token", "x"), "`login` has no option --token: a token on a command line can be read"),
        (("lab:1", "--password=x"), "`login` has no option --password: passwords are typed on the page"),
        (("lab:1", "-k"), "--tls-fingerprint, which it prints at its start"),
        (("--exporter", "rpi4"), "jumpstarter-exporter enrol HOST:PORT"),
        (("lab:1", "--endpoint", "lab:2"), "`login` takes one controller"),
        (("@lab:1",), "is not NAME@HOST:PORT"),
        (("ann@lab:1", "--name", "bob"), "are different clients"),
        (("ann@lab:1", "--pairing-code"), "a pairing code already names the client"),
    ],
)
def test_options_that_only_jmp_has_name_what_to_do(lab: Lab, words: tuple[str, ...], sentence: str) -> None:
    code, said = lab.refused("login", *words)
    assert (code, said.count("\n")) == (2, 1)
    assert sentence in said
