"""What ends a run of a test before its last step, and that the clean-up is done all the same, within its time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import yaml
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.base import DriverClient
from jumpstarter_client.conftest import POWER, FakeExporter, echo, entry, serving
from jumpstarter_client.lease.monitor import LeaseEndedError
from jumpstarter_client.yamltest.machine import RunOutcome
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.run import CLEANUP_SECONDS, STEP_GRACE_SECONDS, Runner
from jumpstarter_client.yamltest.run_events import Event, RunEnded, StepEnded

SERIAL = "jumpstarter_driver_pyserial.client.PySerialClient"
OFF = "\n  - wait: 3\n  - call: {device: rpi4.power, method: 'off'}"


class Run:
    """One test, and what was told of it."""

    def __init__(self, root: DriverClient, file: Path, text: str) -> None:
        file.write_text(text)
        self.events: list[Event] = []
        self.runner = Runner(read(file, None), root.node, tell=self.events.append)

    async def run(self) -> RunEnded:
        with trio.fail_after(100_000):
            return await self.runner.run()

    @property
    def steps(self) -> list[tuple[str, RunOutcome]]:
        return [(one.title.split()[0], one.outcome) for one in self.events if isinstance(one, StepEnded)]


async def test_a_run_that_is_cancelled_cleans_up_first(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    run = Run(root, tmp_path / "a.yaml", f"steps:\n  - wait: 1000\nalways:{OFF}\n")
    with trio.move_on_after(10) as scope:
        await run.run()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(13)
    assert [method for _, method, _ in exporter.called] == ["off"]
    assert run.steps == [
        ("wait", RunOutcome.INTERRUPTED),
        ("wait", RunOutcome.PASSED),
        ("call", RunOutcome.PASSED),
    ]


@pytest.mark.parametrize(
    ("labels", "lacks"),
    [
        ("{jumpstarter.dev/soc: bcm2711}", ""),
        ("{jumpstarter.dev/soc: bcm2712}", "no device has the labels jumpstarter.dev/soc=bcm2712"),
        ("{jumpstarter.dev/soc: bcm2711, jumpstarter.dev/name: power}", "no device has the labels"),
        ("{jumpstarter.dev/soc: rk3588}", "no device has the labels jumpstarter.dev/soc=rk3588"),
    ],
)
async def test_labels_that_a_test_requires_are_those_of_one_device_that_it_uses(
    tmp_path: Path, labels: str, lacks: str
) -> None:
    exporter = FakeExporter()
    exporter.reports = [
        entry("root"),
        entry("board", "rpi4", "root", soc="bcm2711"),
        entry("switch", "power", "board", POWER),
        entry("other", "rock5", "root", soc="rk3588"),
    ]
    async with serving(exporter) as root:
        run = Run(root, tmp_path / "a.yaml", f"requires: {{labels: {labels}}}\nsteps: [power.on]")
        ended = await run.run()
    assert ended.outcome is (RunOutcome.SKIPPED if lacks else RunOutcome.PASSED)
    assert ended.exit_code is (ExitCode.SKIPPED if lacks else ExitCode.OK)
    assert ended.reason.startswith(lacks)
    assert len(exporter.called) == (not lacks)


async def test_a_device_that_is_not_there_is_an_error_at_its_step_before_anything_is_done(
    tmp_path: Path,
) -> None:
    exporter = FakeExporter()
    exporter.reports = [
        entry("root"),
        entry("switch", "power", "root", POWER),
        entry("console", "serial", "root", SERIAL, state="missing", reason="there is no /dev/ttyUSB0"),
    ]
    async with serving(exporter) as root:
        run = Run(root, tmp_path / "a.yaml", "steps:\n  - power.on\n  - serial.send: x\n")
        ended = await run.run()
    assert (ended.outcome, exporter.called) == (RunOutcome.ERROR, [])
    assert "a.yaml:3" in ended.reason
    assert "serial is missing: there is no /dev/ttyUSB0" in ended.reason


@pytest.mark.parametrize(
    ("board", "line"),
    [("bord1", 1), ("rpi4", 4)],  # a board without a console is a mistake of the step
)
async def test_a_board_that_is_not_there_is_a_mistake_of_its_own_line(
    tmp_path: Path, board: str, line: int
) -> None:
    exporter = FakeExporter()
    exporter.reports = [
        entry("root"),
        entry("board", "rpi4", "root"),
        entry("switch", "power", "board", POWER),
        entry("other", "rock5", "root"),
        entry("switch2", "power", "other", POWER),
        entry("console", "serial", "other", SERIAL),
        entry("third", "serial2", "other", SERIAL),
    ]
    async with serving(exporter) as root:
        run = Run(root, tmp_path / "a.yaml", f"board: {board}\nsteps:\n  - power.on\n  - serial.send: x\n")
        ended = await run.run()
    assert (ended.outcome, exporter.called) == (RunOutcome.ERROR, [])
    assert f"a.yaml:{line}:" in ended.reason
    assert repr(board) in ended.reason


async def test_a_result_that_is_kept_is_there_for_later_steps_and_for_the_clean_up(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path
) -> None:
    exporter.methods["measure"] = lambda: {"volts": 5}
    text = """
variables: {what: nothing}
steps:
  - call: {device: rpi4.power, method: measure}
    capture: what
  - log: it is ${what}
always:
  - log: it was ${what}
"""
    run = Run(root, tmp_path / "a.yaml", text)
    ended = await run.run()
    assert [one.said for one in ended.steps] == [(), ('it is {"volts": 5}',), ('it was {"volts": 5}',)]
    assert [one.line for one in ended.steps] == [4, 6, 8]


@pytest.mark.parametrize(
    "case",
    [
        (5, "5", 5),
        (4.5, "4.5", "."),
        (True, "true", True),
        (None, "null", None),
        ("a: b", "a: b", ":"),
        ([1, "x"], '[1, "x"]', 1),
        ({"volts": 5, "states": ["on", None]}, '{"states": ["on", null], "volts": 5}', "volts"),
    ],
)
async def test_a_captured_value_of_any_type_can_be_logged_compared_and_put_into_text(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, case: tuple[Any, str, Any]
) -> None:
    value, text, part = case
    exporter.methods["measure"] = lambda: value
    steps = [
        {"call": {"device": "rpi4.power", "method": "measure"}, "capture": "what"},
        {"log": "${what}"},
        {"log": "it is ${what}"},
        {"compare": {"value": "${what}", "equals": value}},
        {"compare": {"value": "${what}", "matches": f"^{re.escape(text)}$", "contains": part}},
        {"compare": {"value": "${what}", "equals": "another"}},
    ]
    ended = await Run(root, tmp_path / "a.yaml", yaml.safe_dump({"steps": steps})).run()
    assert [one.outcome for one in ended.steps] == [RunOutcome.PASSED] * 5 + [RunOutcome.FAILED]
    assert [one.said for one in ended.steps[1:3]] == [(text,), (f"it is {text}",)]
    assert f"it is {text}, and not another" in ended.reason


async def test_a_part_of_a_captured_value_can_be_compared(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path
) -> None:
    exporter.methods["measure"] = lambda: {"volts": 5.1, "states": ["on", "off"]}
    text = """
steps:
  - call: {device: rpi4.power, method: measure}
    capture: what
  - compare: {value: "${what.volts}", above: 4.9, below: 5.2}
  - log: ${what.states.1}, ${what.volts} V
  - compare: {value: "${what.volts}", above: 5.1}
"""
    ended = await Run(root, tmp_path / "a.yaml", text).run()
    assert ended.steps[2].said == ("off, 5.1 V",)
    assert (ended.outcome, "it is 5.1, which is not above 5.1" in ended.reason) == (RunOutcome.FAILED, True)
    ended = await Run(root, tmp_path / "a.yaml", text.replace("states.1", "states.7")).run()
    assert "the variable 'what' has no part 'states.7'; there are 0, 1" in ended.reason


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("{value: [1], contains: 2}", "it is [1], which does not contain 2"),
        ("{value: abc, matches: '^b'}", "it is abc, which does not match ^b"),
        ("{value: '7', below: 7}", "it is 7, which is not below 7"),
        ("{value: abc, above: 7}", "it is abc, which is not a number"),
        ("{value: 1, equals: null}", "it is 1, and not null"),
        ("{value: '1', equals: 1}", 'it is "1", and not 1'),
        ("{value: 1, equals: '1'}", 'it is 1, and not "1"'),
        ("{value: true, equals: 1}", "it is true, and not 1"),
    ],
)
async def test_a_comparison_that_fails_says_why(
    root: DriverClient, tmp_path: Path, step: str, reason: str
) -> None:
    ended = await Run(root, tmp_path / "a.yaml", f"steps: [{{compare: {step}}}]").run()
    assert (ended.outcome, reason in ended.reason) == (RunOutcome.FAILED, True), ended.reason


async def test_an_interruption_goes_on_to_the_clean_up_and_another_one_leaves_that_too(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = f"steps:\n  - wait: 1000\nalways:{OFF}\n  - wait: 200\n  - log: never\n"
    run = Run(root, tmp_path / "a.yaml", text)

    async def interrupt() -> None:
        for seconds in (10, 20):
            await trio.sleep(seconds)
            run.runner.interrupt("Ctrl-C")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt)
        ended = await run.run()
    assert ended.outcome is RunOutcome.INTERRUPTED
    assert ended.seconds == pytest.approx(30)
    assert ended.reason.startswith("the clean-up was not finished: interrupted again; before: Ctrl-C")
    assert [method for _, method, _ in exporter.called] == ["off"]
    assert run.steps[-1] == ("wait", RunOutcome.INTERRUPTED)


async def test_an_interruption_is_the_outcome_of_a_test_whose_clean_up_is_done(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    run = Run(root, tmp_path / "a.yaml", f"steps:\n  - wait: 1000\nalways:{OFF}\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run)
        await trio.sleep(10)
        run.runner.interrupt("SIGTERM")
    ended = run.events[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.outcome, ended.reason) == (RunOutcome.INTERRUPTED, "SIGTERM")
    assert ended.seconds == pytest.approx(13)


@pytest.mark.parametrize("is_interrupted", [True, False])
async def test_a_board_that_is_lost_is_why_the_step_that_runs_could_not_be_done_unless_somebody_ended_it(
    root: DriverClient,
    exporter: FakeExporter,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    is_interrupted: bool,
) -> None:
    run = Run(root, tmp_path / "a.yaml", f"steps:\n  - wait: 1000\n  - log: never\nalways:{OFF}\n")
    why = "the lease has ended: its time is over"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run)
        await trio.sleep(10)
        if is_interrupted:
            run.runner.interrupt("Ctrl-C")
        for error in (LeaseEndedError(why), LeaseEndedError("once more")):
            run.runner.lose_board(error)
    steps, ended = [one for one in run.events if isinstance(one, StepEnded)], run.events[-1]
    assert isinstance(ended, RunEnded)
    assert [one.title.split()[0] for one in steps] == ["wait", "wait", "call"]
    if is_interrupted:
        assert (steps[0].outcome, steps[0].reason) == (RunOutcome.INTERRUPTED, "interrupted")
        assert (ended.outcome, ended.reason) == (RunOutcome.INTERRUPTED, "Ctrl-C")
        assert ended.exit_code is ExitCode.INTERRUPTED
    else:
        assert (steps[0].outcome, steps[0].reason) == (RunOutcome.ERROR, why)
        assert (ended.outcome, ended.reason) == (RunOutcome.ERROR, why)
        assert ended.exit_code is ExitCode.LEASE_ENDED


def refuse(code: StatusCode) -> Callable[..., None]:
    """A method of a device that ends with that status."""

    def method(*_: object) -> None:
        raise RpcError(code, f"it is {code.name}")

    return method


CODES = {
    StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    StatusCode.PERMISSION_DENIED: ExitCode.DENIED,
    StatusCode.UNKNOWN: ExitCode.FAILED,
}
"""What a test ends with whose step ends so."""


@pytest.mark.parametrize("later", [None, *CODES])
@pytest.mark.parametrize("first", CODES)
async def test_the_first_thing_that_goes_wrong_is_the_exit_code_whatever_the_clean_up_ends_with(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, first: StatusCode, later: StatusCode | None
) -> None:
    exporter.methods["on"] = refuse(first)
    if later is not None:
        exporter.methods["off"] = refuse(later)
    steps = ("  - call: {device: rpi4.power, method: 'on'}", "  - call: {device: rpi4.power, method: 'off'}")
    text = "steps:\n{}\nalways:\n{}\n".format(*steps)
    ended = await Run(root, tmp_path / "a.yaml", text).run()
    assert ended.exit_code is CODES[first]
    assert f"it is {first.name}" in ended.reason


@pytest.mark.parametrize("code", CODES)
async def test_a_clean_up_that_fails_is_the_exit_code_of_a_test_whose_steps_were_done(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, code: StatusCode
) -> None:
    exporter.methods["off"] = refuse(code)
    text = (
        "steps:\n  - log: done\nalways:\n  - call: {device: rpi4.power, method: 'off'}\n  - log: done, too\n"
    )
    assert (await Run(root, tmp_path / "a.yaml", text).run()).exit_code is CODES[code]


async def test_a_try_that_another_one_made_good_is_not_part_of_the_exit_code(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    tries: list[str] = []

    def once() -> None:
        tries.append("on")
        if len(tries) == 1:
            refuse(StatusCode.UNAVAILABLE)()

    exporter.methods["on"] = once
    text = "steps:\n  - call: {device: rpi4.power, method: 'on'}\n    retries: 1\nalways:\n  - wait: 10h\n"
    ended = await Run(root, tmp_path / "a.yaml", text).run()
    assert (ended.outcome, ended.exit_code) == (RunOutcome.ERROR, ExitCode.FAILED)


@pytest.mark.parametrize("code", CODES)
async def test_a_console_that_cannot_be_opened_is_the_exit_code_and_no_step_is_begun(
    exporter: FakeExporter, tmp_path: Path, code: StatusCode
) -> None:
    async def closed(_: object, __: object) -> None:
        refuse(code)()

    exporter.stream = closed
    exporter.reports.append(entry("port", "serial", "board", SERIAL))
    exporter.methods["off"] = refuse(StatusCode.UNIMPLEMENTED)
    async with serving(exporter) as fresh:
        run = Run(
            fresh,
            tmp_path / "a.yaml",
            "steps:\n  - serial.send: hello\nalways:\n  - call: {device: rpi4.power, method: 'off'}\n",
        )
        ended = await run.run()
    assert (ended.outcome, ended.exit_code) == (RunOutcome.ERROR, CODES[code])
    assert [title for title, _ in run.steps] == ["call"]


async def test_a_clean_up_has_its_time_and_no_more(
    root: DriverClient, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    run = Run(root, tmp_path / "a.yaml", "steps:\n  - log: done\nalways:\n  - wait: 10h\n")
    ended = await run.run()
    assert ended.outcome is RunOutcome.ERROR
    assert ended.seconds == pytest.approx(CLEANUP_SECONDS)
    assert "the clean-up was not finished: it took longer than 300 s" in ended.reason


async def test_a_test_has_its_time_and_no_more(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    run = Run(root, tmp_path / "a.yaml", f"timeout: 20\nsteps:\n  - wait: 1000\nalways:{OFF}\n")
    ended = await run.run()
    assert (ended.outcome, ended.reason) == (RunOutcome.FAILED, "the test did not finish within 20 s")
    assert ended.seconds == pytest.approx(23)
    assert exporter.called


async def test_a_step_has_its_time_and_a_moment_to_say_more(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    exporter.methods["on"] = trio.sleep_forever
    text = "steps:\n  - call: {device: rpi4.power, method: 'on'}\n    timeout: 5\n"
    ended = await Run(root, tmp_path / "a.yaml", text).run()
    assert ended.outcome is RunOutcome.FAILED
    assert "not finished within 5 s" in ended.reason
    assert ended.seconds == pytest.approx(5 + STEP_GRACE_SECONDS)


async def test_consoles_are_read_until_the_end_of_the_test_and_not_longer(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    exporter.stream = echo
    exporter.reports.append(entry("port", "serial", "board", SERIAL))
    text = "steps:\n  - serial.send: hello\n  - serial.expect: hello\n"
    async with serving(exporter) as fresh:
        ended = await Run(fresh, tmp_path / "a.yaml", text).run()
    assert (ended.outcome, ended.reason) == (RunOutcome.PASSED, "")
    assert ended.seconds < 1
