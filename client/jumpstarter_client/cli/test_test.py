"""`jumpstarter test` with several files: what it ends with, what it prints and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.cli.conftest import Command
from jumpstarter_client.conftest import FakeExporter, entry

TESTS = {
    "passes": "steps: [power.on]",
    "fails": "steps: [power.off]",
    "lacks": "requires: {interfaces: [camera]}\nsteps: [power.on]",
    "elsewhere": "board: rpi5\nsteps: [power.on]",
}


@pytest.fixture(autouse=True)
def here(lab: FakeExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def stuck() -> None:
        raise RpcError(StatusCode.UNKNOWN, "the relay is stuck")

    lab.methods["off"] = stuck
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, text in TESTS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("names", "code", "counts"),
    [
        (("passes", "lacks"), 0, "1 passed, 1 skipped"),
        (("lacks", "lacks"), 7, "2 skipped"),
        (("lacks", "fails", "passes"), 1, "1 passed, 1 failed, 1 skipped"),
        (("elsewhere", "fails"), 2, "1 failed, 1 error"),
    ],
)
def test_the_worst_is_the_exit_code(
    command: Command, here: Path, names: tuple[str, ...], code: int, counts: str
) -> None:
    done = command("jumpstarter", "test", *(f"{name}.yaml" for name in names))
    last = done.out.splitlines()[-1]
    assert (done.code, last.partition(";")[0]) == (code, counts), done.err
    (run,) = (here / "jumpstarter-results").iterdir()
    assert last.endswith(f"see jumpstarter-results/{run.name}")
    assert len(list(run.iterdir())) == len(names)


def test_all_mistakes_of_all_files_are_said_in_one_run(command: Command, here: Path) -> None:
    steps = (
        "steps: [power.onn, {waitt: 1s}, {group: [{log: x, retries: many}]}, power.on]\nalways: [power.of]"
    )
    (here / "one.yaml").write_text(steps)
    (here / "two.yaml").write_text("step: []")
    done = command("jumpstarter", "test", "one.yaml", "two.yaml", "passes.yaml", "--check")
    assert (done.code, done.out) == (2, "")
    assert [line.split(": ")[2] for line in done.err.splitlines()] == [
        "steps[0].power.onn",
        "steps[1].waitt",
        "steps[2].group[0].retries",
        "always[0].power.of",
        "step",
    ]
    assert not (here / "jumpstarter-results").exists()


def test_results_go_where_they_are_wanted(command: Command, here: Path) -> None:
    words = ("test", "passes.yaml", "fails.yaml", "--results", "kept", "--junit=ci/out.xml", "-o", "json")
    done = command("jumpstarter", *words)
    assert done.code == 1
    found = json.loads(done.out)
    assert [(one["name"], one["outcome"]) for one in found] == [("passes", "passed"), ("fails", "failed")]
    assert "the relay is stuck" in done.err
    assert [path.name for path in here.glob("kept/*/fails/*")].count("result.json") == 1
    assert ElementTree.parse(here / "ci" / "out.xml").getroot().get("failures") == "1"
    again = command("jumpstarter", "test", "passes.yaml", "--no-results")
    assert again.out.splitlines()[-1] == "1 passed"
    assert not (here / "jumpstarter-results").exists()


def test_each_of_several_files_takes_the_variables_that_it_has(command: Command, here: Path) -> None:
    (here / "one.yaml").write_text("variables: {who: nobody}\nsteps: [log: 'it is ${who}']")
    (here / "other.yaml").write_text("variables: {what: nothing}\nsteps: [log: 'it has ${what}']")
    both = ("one.yaml", "other.yaml", "--no-results")
    said = command("jumpstarter", "test", *both, "--set", "who=ann", "--set=what=a=b").out
    assert "it is ann\n" in said
    assert "it has a=b\n" in said
    alone = command("jumpstarter", "test", "one.yaml", "--set", "what=x", "--check")
    assert (alone.code, "what" in alone.err) == (2, True)
    assert command("jumpstarter", "test", "one.yaml", "--check").out == "one.yaml: good\n"


def test_a_board_that_is_named_counts_before_that_of_the_test(
    command: Command, lab: FakeExporter, here: Path
) -> None:
    lab.reports.append(entry("other", "rpi5", "root"))
    lab.reports.append(entry("power5", "power", "other", "jumpstarter_driver_power.client.PowerClient"))
    for words, uuid in (((), "power5"), (("--board", "rpi4"), "switch")):
        assert command("jumpstarter", "test", "elsewhere.yaml", "--no-results", *words).code == 0
        assert lab.called[-1] == (uuid, "on", [])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "no test named"),
        (("passes.yaml", "--set", "x"), "--set takes NAME=VALUE, not 'x'"),
        (("passes.yaml", "--junit"), "--junit needs a value"),
        (("passes.yaml", "--chek"), "`test` has no option --chek; did you mean '--check'"),
    ],
)
def test_wrong_words_are_one_sentence(command: Command, words: tuple[str, ...], sentence: str) -> None:
    done = command("jumpstarter", "test", "--no-results", *words)
    assert (done.code, sentence in done.err) == (2, True), done.err
