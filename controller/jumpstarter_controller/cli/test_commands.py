"""The administrator's commands on a data folder whose controller does not run: what they do, and what they print."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.usage_errors import run_app

from jumpstarter_controller import app as process
from jumpstarter_controller.audit import AuditEntry, AuditLimits
from jumpstarter_controller.audit.audit_file import AuditFile
from jumpstarter_controller.cli.commands import app
from jumpstarter_controller.cli.run import run_controller
from jumpstarter_controller.identity import TokenIssuer, signing_key
from jumpstarter_controller.lab import Client, Drain, Exporter, Host, Key, PairingCode, Policy
from jumpstarter_controller.process import server_log
from jumpstarter_controller.process.data_folder import Addresses, DataError, DataFolder
from jumpstarter_controller.services.routers import Router
from jumpstarter_controller.store import SqliteStore
from jumpstarter_controller.store.whole import fill, lab_of

ADDRESSES = Addresses("lab.example:8082", "the ca", "AB:CD", certificate_ends=4e9)
Said: TypeAlias = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.prepare()
    SqliteStore(folder.database).close()
    folder.remember(ADDRESSES)
    return folder


@pytest.fixture
def say(folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command, and say what it prints; or how it fails, with that exit code."""

    def run(*words: str | Path, code: int = 0) -> str:
        try:
            assert run_app(app, [*map(str, words), "--data", str(folder.path)]) == 0
        except JumpstarterError as error:
            assert error.exit_code == code, error  # noqa: PT017 - or it succeeds
            return str(error)
        said = capsys.readouterr()
        assert (code, said.err) == (0, "")
        return said.out

    return run


def records(folder: DataFolder) -> Any:
    with closing(SqliteStore(folder.database)) as store:
        return lab_of(store)


@pytest.mark.parametrize(("word", "kind"), [("client", Client), ("exporter", Exporter)])
def test_objects_are_made_listed_changed_and_deleted(
    folder: DataFolder, tmp_path: Path, say: Said, word: str, kind: type[Client | Exporter]
) -> None:
    file, key = tmp_path / "x.yaml", Key("lab", "x")
    said = say(
        "admin", word, "create", "x", "--namespace", "lab", "--label", "b=1", "--label", "a=2", "--save", file
    )
    assert said == f"{file}: the configuration of {word} lab/x\n"
    record = records(folder).get(kind, key)
    assert (record.labels, record.enabled, record.username) == ({"a": "2", "b": "1"}, True, "")
    written = yaml.safe_load(file.read_text())
    assert written["kind"] == f"{word.capitalize()}Config"
    assert (written["metadata"], written["endpoint"]) == (
        {"namespace": "lab", "name": "x"},
        "lab.example:8082",
    )
    issuer = TokenIssuer(signing_key(folder.signing_key), ADDRESSES.endpoint)
    subject, _ = issuer.verify(written["token"])
    assert (subject.kind.lower(), subject.namespace, subject.name, subject.uid) == (
        word,
        "lab",
        "x",
        record.uid,
    )
    say("admin", word, "create", "y", "--oidc-username", "lab:y")
    assert records(folder).get(kind, Key("default", "y")).username == "lab:y"
    status = "" if kind is Client else "  UNSPECIFIED"
    assert say("admin", word, "list") == f"default  y{status}\nlab  x{status}  a=2,b=1\n"
    assert say("admin", word, "list", "--namespace", "lab", "-o", "name") == "x\n"
    assert say("admin", word, "disable", "x", "--namespace", "lab") == f"{word.capitalize()} lab/x disabled\n"
    assert not records(folder).get(kind, key).enabled
    assert say("admin", word, "list", "--namespace", "lab") == f"lab  x  disabled{status}  a=2,b=1\n"
    found = json.loads(say("admin", word, "list", "-o", "json"))[f"{word}s"]
    assert [(one["namespace"], one["name"], one["enabled"]) for one in found] == [
        ("default", "y", True),
        ("lab", "x", False),
    ]
    assert yaml.safe_load(say("admin", word, "list", "-o", "yaml")) == {f"{word}s": found}
    assert say("admin", word, "enable", "x", "--namespace", "lab") == f"{word.capitalize()} lab/x enabled\n"
    assert records(folder).get(kind, key).enabled
    assert say("admin", word, "rotate", "x", "--namespace", "lab", "--save", file) == said
    after = records(folder).get(kind, key)
    assert after.uid != record.uid
    assert issuer.verify(yaml.safe_load(file.read_text())["token"])[0].uid == after.uid
    assert say("admin", word, "delete", "x", "--namespace", "lab") == f"{word.capitalize()} lab/x deleted\n"
    assert [one.name for one in records(folder).all(kind)] == ["y"]


def test_a_code_is_printed_with_what_to_type_on_the_other_machine(folder: DataFolder, say: Said) -> None:
    options = ("--namespace", "lab", "--label", "site=a", "--valid", "2m", "-o", "json")
    before = time.time()
    offers = {
        word: json.loads(say("admin", "pair", word, "x", *options)) for word in ("client", "exporter", "host")
    }
    where = ["lab.example:8082", "--tls-fingerprint", "AB:CD"]
    assert {word: offer["command"] for word, offer in offers.items()} == {
        "client": ["jumpstarter", "login", where[0], "--pairing-code", *where[1:]],
        "exporter": ["jumpstarter-exporter", "enrol", *where],
        "host": ["jumpstarter-exporter", "enrol", *where],
    }
    codes = {code.kind.lower(): code for code in records(folder).all(PairingCode)}
    for word, offer in offers.items():
        code = codes[word]
        assert (offer["kind"], offer["namespace"], offer["name"]) == (word.capitalize(), "lab", "x")
        assert (offer["endpoint"], offer["fingerprint"]) == ("lab.example:8082", "AB:CD")
        assert (code.namespace, code.subject, code.labels) == ("lab", "x", {"site": "a"})
        assert code.may_label == (("board", "host") if word == "host" else ())
        assert before + 120 <= code.expires <= time.time() + 120
        assert offer["expires"].startswith(time.strftime("%Y-%m-%dT%H:%M", time.gmtime(code.expires)))
    granted = say("admin", "pair", "host", "pi4", "--may-label", "team", "--may-not-label", "board")
    assert granted.startswith("If pi4 has our image, until ")
    assert "\nOn a host without our image, until " in granted
    assert "\n    jumpstarter-exporter enrol lab.example:8082 --tls-fingerprint AB:CD\n" in granted
    assert "\nendpoint: lab.example:8082\nfingerprint: AB:CD\npairingCode: HOST-" in granted
    [pi4] = [code for code in records(folder).all(PairingCode) if code.subject == "pi4"]
    assert pi4.may_label == ("host", "team")
    assert say("admin", "pair", "exporter", "b").startswith("On the host of b, until ")
    assert say("admin", "pair", "client", "ann").startswith("On ann's machine, until ")
    assert "changes no labels" in say("admin", "pair", "host", "pi4", "--renew", "--may-label", "x", code=2)


def test_what_a_hosts_boards_have_is_changed_and_shown(folder: DataFolder, say: Said) -> None:
    host = Host(namespace="default", name="pi4", uid="1", labels={"site": "a"}, may_label=("board", "host"))
    board = Exporter(
        namespace="default", name="pi4-a", uid="2", host="pi4", said={"board": "x"}, labels={"board": "x"}
    )
    with closing(SqliteStore(folder.database)) as store:
        fill(store, host, board)
    words = ("--label", "rack=3", "--no-label", "site", "--may-label", "team", "--may-not-label", "board")
    assert say("admin", "host", "change", "pi4", *words) == (
        "host default/pi4: labels of its boards: rack=3; it may set: host, team\n"
    )
    lab = records(folder)
    assert (lab.get(Host, host.key).labels, lab.get(Host, host.key).may_label) == (
        {"rack": "3"},
        ("host", "team"),
    )
    assert lab.get(Exporter, board.key).labels == {
        "host": "pi4",
        "rack": "3",
        "jumpstarter.dev/host": "pi4",
        "jumpstarter.dev/board": "a",
    }
    assert say("admin", "host", "list") == "default  pi4  rack=3  may set: host,team  boards: pi4-a\n"
    [listed] = json.loads(say("admin", "host", "list", "-o", "json"))["hosts"]
    assert (listed["may_label"], listed["boards"]) == (["host", "team"], ["pi4-a"])
    [listed] = json.loads(say("admin", "exporter", "list", "-o", "json"))["exporters"]
    assert (listed["host"], listed["status"], "gone_since" in listed) == ("pi4", "UNSPECIFIED", False)
    assert "admin pair host pi4 --renew" in say("admin", "host", "revoke", "pi4")
    after = records(folder)
    assert after.get(Host, host.key).uid != "1"
    assert after.get(Exporter, board.key).uid != "2"
    say("admin", "host", "delete", "pi4")
    assert [*records(folder).all(Host), *records(folder).all(Exporter)] == []
    assert "there is no host default/pi4" in say("admin", "host", "change", "pi4", code=ExitCode.NOT_FOUND)


def test_a_lab_is_drained_with_a_reason_until_it_is_resumed(folder: DataFolder, say: Said) -> None:
    assert say("drain", "--reason", "new kernel", "--wait") == (
        "drained: no lease begins until `jumpstarter-controller resume`; no leases run, none wait\n"
    )
    assert records(folder).get(Drain, Drain.KEY).reason == "new kernel"
    assert say("resume") == "leases begin again; no leases run, none wait\n"
    assert records(folder).get(Drain, Drain.KEY) is None


RULES = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: ci}
spec:
  policies:
    - priority: 5
      description: at night
      from: [{clientSelector: {matchLabels: {team: ci}}}, {clientSelector: {}}]
      maximumDuration: 90m
    - from: []
"""


def test_policies_are_listed_with_all_that_they_say(
    folder: DataFolder, tmp_path: Path, say: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    assert say("admin", "policy", "apply", file, "--namespace", "lab") == "policy lab/ci created\n"
    assert say("admin", "policy", "list", "--namespace", "lab") == (
        "lab  ci  all exporters\n"
        "    team=ci or everybody  priority 5  at most 5400 s  (at night)\n"
        "    nobody  priority 0\n"
    )
    assert run_app(app, ["admin", "policy", "list", "--namespace", "other", "--data", str(folder.path)]) == 0
    assert capsys.readouterr().err.startswith("no policies: every client may lease every exporter;")
    assert records(folder).get(Policy, Key("lab", "ci")).rules[0].priority == 5
    assert say("admin", "policy", "delete", "ci", "--namespace", "lab").startswith(
        "policy lab/ci deleted\nlab has no"
    )


def test_the_journal_says_who_did_what(folder: DataFolder, say: Said) -> None:
    now = time.time()
    call = AuditEntry(
        now - 50,
        "lab",
        "one",
        "ann",
        "mine",
        is_call=True,
        session="s",
        device="power",
        method="on",
        status="OK",
        seconds=1.25,
        received=5,
        sent=7,
    )
    entries = [
        AuditEntry(now - 7000, "lab", what="long ago"),
        AuditEntry(now - 60, "lab", client="ann", what="lease created", lease="mine"),
        call,
        AuditEntry(now - 40, "lab", "one", user="ana", is_call=True, method="off", what="by a hook"),
        AuditEntry(now - 30, "lab", "one", "ann", user="ana", is_call=True, more=1),
        AuditEntry(now - 20, "lab", "two", more=3),
        AuditEntry(now - 10, "other", client="ann", what="elsewhere"),
    ]
    file = AuditFile(folder.journal, 1024 * 1024)
    file.append(entries, 0.0)
    file.close()

    def lines(*words: str) -> list[str]:
        return [line.split("  ", 1)[1] for line in say("admin", "journal", *words).splitlines()]

    everything = [
        "-  -  long ago",
        "-  ann  lease created  lease=mine",
        "one  ann  power.on: OK, 1.2 s, 5 bytes to it, 7 from it  lease=mine",
        "one  ana of the host  off: begins (by a hook)",
        "one  ana of the host, beside ann  and 1 more call",
        "two  -  and 3 more entries",
        "-  ann  elsewhere",
    ]
    assert lines() == everything
    assert lines("--since", "1h") == everything[1:]
    assert lines("--since", "1h", "--until", "35s") == everything[1:4]
    assert lines("--board", "one") == everything[1:5]
    assert lines("--client", "ann", "--namespace", "lab") == [everything[number] for number in (1, 2, 4)]
    assert lines("--lease", "mine") == everything[1:3]
    then = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now - 25))
    assert lines("--since", then) == everything[5:]
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - 50))
    assert say("admin", "journal", "--lease", "mine").splitlines()[1].startswith(stamp)
    found = json.loads(say("admin", "journal", "-o", "json", "--since", "1h"))["entries"]
    assert found[1] | {"time": ""} == {
        "time": "",
        "kind": "call",
        "namespace": "lab",
        "board": "one",
        "client": "ann",
        "lease": "mine",
        "session": "s",
        "device": "power",
        "method": "on",
        "status": "OK",
        "seconds": 1.25,
        "receivedBytes": 5,
        "sentBytes": 7,
    }
    assert found[1]["time"].startswith(time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(now - 50)))
    assert [("more" in one, "seconds" in one) for one in found[2:5]] == [
        (False, False),
        (True, False),
        (True, False),
    ]


def test_of_a_journal_that_is_longer_the_newest_are_shown_and_the_others_counted(
    folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    file = AuditFile(folder.journal, 1024 * 1024)
    file.append([AuditEntry(time.time() - 100 + number, what=f"n{number}") for number in range(5)], 0.0)
    file.close()
    file = AuditFile(folder.journal, 1024 * 1024)
    file.append([AuditEntry(time.time() - 9000, what="old")] * 600, 0.0)
    file.close()
    assert run_app(app, ["admin", "journal", "--limit", "510", "--data", str(folder.path)]) == 0
    assert capsys.readouterr().err == "95 older ones are not shown; see --limit, --since and --until\n"
    for words, out, err in (
        (["--limit", "2"], "n3,n4", "603 older ones are not shown; see --limit, --since and --until\n"),
        (["--board", "x"], "", "nothing is in the journal of that since 1d\n"),
    ):
        assert run_app(app, ["admin", "journal", *words, "--data", str(folder.path)]) == 0
        said = capsys.readouterr()
        assert ",".join(line.rpartition("  ")[2] for line in said.out.splitlines()) == out
        assert said.err == err


def test_a_folder_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    for words in (["admin", "client", "list"], ["drain"], ["admin", "journal"]):
        with pytest.raises(DataError, match="none has not run yet") as refused:
            run_app(app, [*words, "--data", str(tmp_path / "none")])
        assert refused.value.exit_code == ExitCode.USAGE
    assert not (tmp_path / "none").exists()


def test_each_option_of_run_is_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller is not started: what it would be started with is looked at."""
    started: list[process.ControllerSettings] = []

    async def start(settings: process.ControllerSettings) -> ExitCode:
        started.append(settings)
        return ExitCode.OK

    monkeypatch.setattr(process, "run", start)
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(server_log, "configure", lambda level, form: logged.append((level, form)))
    config = tmp_path / "config.yaml"
    config.write_text("provisioning: {enabled: true}\n")
    options = {
        "data": tmp_path,
        "listen": ":1",
        "endpoint": "lab:2",
        "router-listen": ":3",
        "router-endpoint": "lab:4",
        "replica-listen": ":5",
        "replica-endpoint": "lab:6",
        "router": "far:7,site=a",
        "tls-cert": tmp_path / "crt",
        "tls-key": tmp_path / "key",
        "jumpstarter-key": tmp_path / "secret",
        "max-leases": 8,
        "keep-ended": "9h",
        "keep-journal": "10m",
        "max-journal-mib": 11,
        "metrics-listen": ":12",
        "config": config,
        "log-level": "error",
        "log-format": "json",
        "store": "kubernetes",
        "namespace": "ns",
        "kubeconfig": tmp_path / "kube",
        "tokens": "serviceaccounts",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    chosen = run_app(app, ["run", "--with-router", *words])
    assert isinstance(chosen, dict)
    assert run_controller(**chosen) == 0
    [settings] = started
    assert settings.kubernetes is not None
    assert (settings.kubernetes.namespace, settings.kubernetes.kubeconfig, settings.kubernetes.tokens) == (
        "ns",
        str(tmp_path / "kube"),
        "serviceaccounts",
    )
    assert settings.configuration.provisioned == {"default"}
    assert settings.journal == AuditLimits(600.0, 11)
    assert settings.routers == (Router("far:7", {"site": "a"}),)
    rest = {key: getattr(settings, key) for key in asdict(process.ControllerSettings(tmp_path, ""))}
    for key in ("kubernetes", "configuration", "journal", "routers"):
        del rest[key]
    assert rest == {
        "data": tmp_path,
        "listen": ":1",
        "endpoint": "lab:2",
        "with_router": True,
        "router_listen": ":3",
        "router_endpoint": "lab:4",
        "replica_listen": ":5",
        "replica_endpoint": "lab:6",
        "certificate": tmp_path / "crt",
        "key": tmp_path / "key",
        "jumpstarter_key": tmp_path / "secret",
        "max_leases": 8,
        "keep_ended": 9 * 3600.0,
        "metrics_listen": ":12",
        "configuration_file": config,
    }
    chosen = run_app(app, ["run", "--data", str(tmp_path)])
    assert isinstance(chosen, dict)
    assert run_controller(**chosen) == 0
    assert logged == [("error", "json"), ("info", "text")]
    assert started[1] == process.ControllerSettings(data=tmp_path, listen=":8082")
