"""The files of a run: a folder with a summary, the result as JSON, and JUnit XML for CI."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from jumpstarter_proto.file_names import SafeName, safe_name
from jumpstarter_proto.texts import printable

from jumpstarter_client.console.matcher import plain
from jumpstarter_client.yamltest.machine import RunOutcome, RunPhase
from jumpstarter_client.yamltest.report import MARKS, duration, first_line, totals
from jumpstarter_client.yamltest.run_events import RunEnded, StepEnded

__all__ = ["facts", "folder_name", "summary_line", "write_folder", "write_junit"]

TAIL_LINES = 40
"""How many lines of each console the summary of a failed test has."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def folder_name(name: str, taken: set[str]) -> SafeName:
    """Return a folder name for a test that is not taken, and add it to `taken`."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "test"
    found, count = safe_name(plain), 1
    while found in taken:
        count += 1
        found = safe_name(plain, f"-{count}")
    taken.add(found)
    return found


def write_folder(folder: Path, ended: RunEnded) -> None:
    """Write `summary.txt` and `result.json` beside the logs of the consoles."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.txt").write_text(
        "\n".join(map(printable, _summary(folder, ended))) + "\n", encoding="utf-8"
    )
    (folder / "result.json").write_text(
        json.dumps(facts(ended), indent=2, ensure_ascii=False, default=str) + "\n"
    )


def _summary(folder: Path, ended: RunEnded) -> Iterator[str]:
    yield f"{ended.test.name}: {ended.outcome.value} in {duration(ended.seconds)}"
    if ended.reason:
        yield f"why: {first_line(ended.reason)}"
    yield f"file: {ended.test.document.file}"
    if ended.test.description:
        yield ended.test.description
    yield ""
    cleaning = False
    for step in ended.steps:
        if step.phase is RunPhase.ALWAYS and not cleaning:
            cleaning = True
            yield "always:"
        again = f" (try {step.attempt})" if step.attempt > 1 else ""
        where = f" [{step.device}]" if step.device else ""
        yield f"{MARKS[step.outcome][1]:<11} {step.title}{where}{again}  {duration(step.seconds)}  line {step.line}"
        for line in [*step.said, *step.reason.splitlines()]:
            yield f"            {line}"
        if step.result is not None:
            yield f"            -> {_short(step.result)}"
    for name in ended.consoles:
        path = Path(name)
        shown = path.relative_to(folder) if path.is_relative_to(folder) else path
        yield ""
        if ended.outcome is RunOutcome.PASSED:
            yield f"console: {shown}"
            continue
        lines = plain(path.read_bytes()).splitlines()
        yield f"the end of {shown}:"
        yield from (f"    {line}" for line in lines[-TAIL_LINES:])


def _short(result: object) -> str:
    text = " ".join(str(result).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def facts(ended: RunEnded) -> dict[str, Any]:
    """Return the result of a test as data."""
    return {
        "name": ended.test.name,
        "file": str(ended.test.document.file),
        "outcome": ended.outcome.value,
        "reason": ended.reason,
        "seconds": round(ended.seconds, 3),
        "consoles": list(ended.consoles),
        "steps": [
            {
                "title": step.title,
                "device": step.device,
                "phase": step.phase.value,
                "attempt": step.attempt,
                "line": step.line,
                "outcome": step.outcome.value,
                "reason": step.reason,
                "seconds": round(step.seconds, 3),
                "result": step.result,
                "said": list(step.said),
            }
            for step in ended.steps
        ],
    }


def write_junit(file: Path, ended: list[RunEnded]) -> None:
    """Write JUnit XML: one test case per test, with its steps as output."""
    counted = {
        "tests": len(ended),
        "failures": sum(one.outcome is RunOutcome.FAILED for one in ended),
        "errors": sum(one.outcome in (RunOutcome.ERROR, RunOutcome.INTERRUPTED) for one in ended),
        "skipped": sum(one.outcome is RunOutcome.SKIPPED for one in ended),
    }
    attributes = {key: str(value) for key, value in counted.items()}
    attributes["time"] = f"{sum(one.seconds for one in ended):.3f}"
    suites = Element("testsuites", attributes)
    suite = SubElement(suites, "testsuite", {"name": "jumpstarter", **attributes})
    for one in ended:
        case = SubElement(
            suite,
            "testcase",
            {
                "name": _text(one.test.name),
                "classname": _text(one.test.document.file.stem),
                "file": _text(str(one.test.document.file)),
                "time": f"{one.seconds:.3f}",
            },
        )
        match one.outcome:
            case RunOutcome.FAILED:
                SubElement(case, "failure", {"message": _text(one.reason)})
            case RunOutcome.ERROR | RunOutcome.INTERRUPTED:
                SubElement(case, "error", {"message": _text(one.reason), "type": one.outcome.value})
            case RunOutcome.SKIPPED:
                SubElement(case, "skipped", {"message": _text(one.reason)})
        SubElement(case, "system-out").text = _text("\n".join(map(_line, one.steps)))
    indent(suites)
    file.parent.mkdir(parents=True, exist_ok=True)
    ElementTree(suites).write(file, encoding="utf-8", xml_declaration=True)


def _line(step: StepEnded) -> str:
    return f"{step.outcome.value}: {step.title} [{step.device}] {step.seconds:.1f} s {step.reason}".rstrip()


def _text(text: str) -> str:
    """Remove control characters, and characters that XML does not allow."""
    return _NOT_XML.sub("�", printable(text))


def summary_line(ended: list[RunEnded], folder: Path | None) -> str:
    """Return the last line of a run."""
    return totals(ended) + (f"; see {folder}" if folder else "")
