"""What a run leaves behind, and what is told while it goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jumpstarter_proto.errors import ExitCode

from jumpstarter_client.yamltest.files import facts, folder_name, summary_line, write_folder, write_junit
from jumpstarter_client.yamltest.machine import RunOutcome, RunPhase
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.report import ConsoleReporter, duration
from jumpstarter_client.yamltest.run_events import RunEnded, RunStarted, StepEnded, StepSaid, StepStarted


def ended(
    folder: Path, outcome: RunOutcome, *steps: StepEnded, reason: str = "", consoles: int = 0
) -> RunEnded:
    file = folder / f"{outcome.value}.yaml"
    file.write_text(f"name: it is {outcome.value}\ndescription: what it is for\nsteps: [power.on]\n")
    logs = tuple(str(folder / "run" / "consoles" / f"{number}.log") for number in range(consoles))
    return RunEnded(read(file, None), outcome, reason, 61.5, steps, logs, ExitCode.OK)


def step(title: str, outcome: RunOutcome = RunOutcome.PASSED, **more: object) -> StepEnded:
    given = {
        "device": "rpi4.power",
        "phase": RunPhase.STEPS,
        "attempt": 1,
        "reason": "",
        "seconds": 0.25,
        "line": 7,
    }
    return StepEnded(title=title, outcome=outcome, **{**given, **more})  # type: ignore[arg-type]


def test_a_folder_has_a_summary_for_people_and_a_result_for_machines(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    steps = (
        step("power.on", said=("1.5 A",), result={"voltage": 5}),
        step("serial.expect: x", RunOutcome.FAILED, attempt=2, reason="it did not come\nlast: y"),
        step("log: bye", phase=RunPhase.ALWAYS, device="", line=9, result="z" * 300),
        step("power.off", phase=RunPhase.ALWAYS, line=10),
    )
    run = ended(tmp_path, RunOutcome.FAILED, *steps, reason="serial.expect\nlast: y", consoles=1)
    (folder / "consoles").mkdir(parents=True)
    Path(run.consoles[0]).write_bytes(b"".join(b"line %d\r\n" % number for number in range(1, 61)))
    write_folder(folder, run)
    lines = (folder / "summary.txt").read_text().splitlines()
    assert lines[:15] == [
        "it is failed: failed in 1 min 1 s",
        "why: serial.expect",
        f"file: {tmp_path}/failed.yaml",
        "what it is for",
        "",
        "ok          power.on [rpi4.power]  0.2 s  line 7",
        "            1.5 A",
        "            -> {'voltage': 5}",
        "FAILED      serial.expect: x [rpi4.power] (try 2)  0.2 s  line 7",
        "            it did not come",
        "            last: y",
        "always:",
        "ok          log: bye  0.2 s  line 9",
        f"            -> {'z' * 197}...",
        "ok          power.off [rpi4.power]  0.2 s  line 10",
    ]
    assert lines[15:] == [
        "",
        "the end of consoles/0.log:",
        *(f"    line {number}" for number in range(21, 61)),
    ]
    found = json.loads((folder / "result.json").read_text())
    assert found == facts(run)
    assert (found["outcome"], found["seconds"], found["consoles"]) == ("failed", 61.5, list(run.consoles))
    assert found["steps"][1] == {
        "title": "serial.expect: x",
        "device": "rpi4.power",
        "phase": "steps",
        "attempt": 2,
        "line": 7,
        "outcome": "failed",
        "reason": "it did not come\nlast: y",
        "seconds": 0.25,
        "result": None,
        "said": [],
    }
    assert found["steps"][2]["phase"] == "always"


def test_consoles_of_a_test_that_passed_are_only_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ended(tmp_path, RunOutcome.PASSED, step("power.on"), consoles=1)
    write_folder(folder, run)
    assert (folder / "summary.txt").read_text().splitlines()[-2:] == ["", "console: consoles/0.log"]


def test_ci_gets_a_case_for_each_test_and_counts_what_could_not_be_run_as_errors(tmp_path: Path) -> None:
    runs = [ended(tmp_path, outcome, step("power.on"), reason="why\x1b") for outcome in RunOutcome]
    file = tmp_path / "out" / "junit.xml"
    write_junit(file, runs)
    suites = ElementTree.parse(file).getroot()
    counts = {"tests": "5", "failures": "1", "errors": "2", "skipped": "1", "time": "307.500"}
    assert suites.attrib == counts
    (suite,) = suites
    assert suite.attrib == {"name": "jumpstarter", **counts}
    found = {}
    for case in suite:
        outcome = str(case.get("classname"))
        assert (case.get("name"), case.get("time")) == (f"it is {outcome}", "61.500")
        assert case.get("file") == f"{tmp_path}/{outcome}.yaml"
        *said, output = case
        assert output.text == "passed: power.on [rpi4.power] 0.2 s"
        found[outcome] = [(one.tag, one.get("type"), one.get("message")) for one in said]
    assert found == {
        "passed": [],
        "failed": [("failure", None, "why\\x1b")],
        "skipped": [("skipped", None, "why\\x1b")],
        "error": [("error", "error", "why\\x1b")],
        "interrupted": [("error", "interrupted", "why\\x1b")],
    }


def test_the_last_line_counts_outcomes_and_says_where_all_is(tmp_path: Path) -> None:
    runs = [ended(tmp_path, one) for one in (RunOutcome.PASSED, RunOutcome.SKIPPED, RunOutcome.PASSED)]
    assert summary_line(runs, Path("results/x")) == "2 passed, 1 skipped; see results/x"
    assert summary_line([], None) == "no tests"


def test_each_test_of_a_run_has_a_folder_of_its_own() -> None:
    taken: set[str] = set()
    names = ["boot it", "boot/it", "../boot it", "..", "Ünï"]
    assert [folder_name(name, taken) for name in names] == [
        "boot-it",
        "boot-it-2",
        "boot-it-3",
        "test",
        "Ünï",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.4, "59 s"), (200.9, "3 min 20 s")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_happens_is_told_in_lines(tmp_path: Path) -> None:
    output = io.StringIO()
    stuck = "stuck; the console's last lines:\nmore"
    run = ended(tmp_path, RunOutcome.FAILED, reason=f"power.off: {stuck}")
    reporter = ConsoleReporter(output, live=False, colour=False)
    for _ in range(2):
        reporter.report(RunStarted(run.test))
        reporter.report(StepStarted("power.on", "rpi4.power", RunPhase.STEPS, 1, 1))
        reporter.report(StepSaid("one\ntwo"))
        reporter.report(step("power.on", seconds=1))
        for _ in range(2):
            reporter.report(StepStarted("power.off", "", RunPhase.ALWAYS, 1, 0))
            reporter.report(
                step("power.off", RunOutcome.FAILED, device="", phase=RunPhase.ALWAYS, reason=stuck)
            )
        reporter.report(run)
    once = [
        f"it is failed  ({tmp_path}/failed.yaml)",
        "        one",
        "        two",
        "    ok     power.on  [rpi4.power]  1.0 s",
        "  always:",
        *["  FAILED power.off  0.2 s  line 7", "      stuck; the console's last lines:", "      more"] * 2,
        "FAILED  it is failed in 1 min 1 s: power.off: stuck",
        "",
    ]
    assert output.getvalue().splitlines() == once * 2


def test_on_a_terminal_the_step_that_runs_is_drawn_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    output = io.StringIO()
    reporter = ConsoleReporter(output, live=True, colour=True)
    reporter.report(StepStarted("power.on", "rpi4.power", RunPhase.STEPS, 3, 1))
    assert "    … power.on (try 3)" in output.getvalue()
    assert "\n" not in output.getvalue()
    reporter.report(step("power.on"))
    assert "\x1b[32m✓\x1b[0m power.on" in output.getvalue()
