"""`jumpstarter test`: run tests that are written in YAML."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.page_width import fit_table, terminal_width
from jumpstarter_proto.terminal import print_error_line, print_line, print_text, wants_colour
from jumpstarter_proto.yaml_files import Document, Mistakes

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.command_options import TEST
from jumpstarter_client.cli.options import GlobalOptions, take_name, take_output
from jumpstarter_client.cli.output import write_data
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.connections.connect import connect_async
from jumpstarter_client.lease.monitor import LeaseEndedError
from jumpstarter_client.yamltest.files import facts, folder_name, summary_line, write_folder, write_junit
from jumpstarter_client.yamltest.machine import RunOutcome
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.report import ConsoleReporter
from jumpstarter_client.yamltest.run import Runner
from jumpstarter_client.yamltest.schema import schema
from jumpstarter_client.yamltest.steps import known_steps
from jumpstarter_client.yamltest.which_board import choose_board_of_test

if TYPE_CHECKING:
    from jumpstarter_client.base import DriverClient
    from jumpstarter_client.yamltest.model import BoardTest
    from jumpstarter_client.yamltest.run_events import RunEnded

__all__ = ["test"]


@dataclass
class _Run:
    """The options of one run."""

    files: list[Path] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    board: str | None = None
    results: Path | None = Path("jumpstarter-results")
    junit: Path | None = None
    check: bool = False
    output: str | None = None


def test(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    if "--schema" in arguments:
        return _print_schema()
    if "--steps" in arguments:
        return _print_steps()
    run = _parse(take_name(arguments, options))

    tests, mistakes = [], Mistakes()
    for file in run.files:
        with mistakes.collected():
            tests.append(read(file, _given(file, run)))
    for error in mistakes.errors:
        print_error_line(f"error: {error}")
    if mistakes.errors:
        return mistakes.errors[0].exit_code
    if run.check:
        for one in tests:
            print_line(f"{one.document.file}: good")
        return ExitCode.OK

    return run_trio(partial(_run, tests, run, options))


def _parse(arguments: list[str]) -> _Run:
    output, arguments = take_output(arguments)
    parsed = parse_arguments("test", arguments, TEST)
    if not parsed.words:
        raise UsageError("no test named; name a YAML file (see: jumpstarter test --help)")
    run = _Run(files=[Path(word) for word in parsed.words], output=output, check="--check" in parsed.flags)
    for text in parsed.values.get("--set", []):
        variable, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, not {text!r}")
        run.variables[variable] = value
    run.board = parsed.one("--board")
    if results := parsed.one("--results"):
        run.results = Path(results)
    if "--no-results" in parsed.flags:
        run.results = None
    if junit := parsed.one("--junit"):
        run.junit = Path(junit)
    return run


def _given(file: Path, run: _Run) -> dict[str, str]:
    """Return the variables for a file. With several files, each gets only the variables that it declares."""
    if len(run.files) == 1:
        return run.variables

    own = Document(file, "steps").data.get("variables") or {}
    return {name: value for name, value in run.variables.items() if name in own}


def _print_schema() -> ExitCode:

    print_text(json.dumps(schema(), indent=2) + "\n")
    return ExitCode.OK


def _print_steps() -> ExitCode:
    rows = [
        (name, step.help, " ".join(step.keys.__struct_encode_fields__))
        for name, step in sorted(known_steps().items())
    ]
    for line in fit_table(("STEP", "WHAT IT DOES", "KEYS"), rows, terminal_width()):
        print_line(*line)
    return ExitCode.OK


async def _run(tests: list[BoardTest], run: _Run, options: GlobalOptions) -> ExitCode:
    folder = _new_folder(run.results) if run.results else None
    ended: list[RunEnded] = []
    try:
        await _run_all(tests, run, options, folder, ended)
    finally:
        if run.junit is not None and ended:
            write_junit(run.junit, ended)
    if run.output is None:
        print_line(summary_line(ended, folder))
    else:
        write_data([facts(one) for one in ended], run.output)
    codes = {one.exit_code for one in ended}
    if ExitCode.SKIPPED in codes and codes != {ExitCode.SKIPPED}:
        codes.remove(ExitCode.SKIPPED)
    return max(codes)  # interrupted outranks "could not run", which outranks failed


async def _run_all(
    tests: list[BoardTest], run: _Run, options: GlobalOptions, folder: Path | None, ended: list[RunEnded]
) -> None:
    output = sys.stdout if run.output is None else sys.stderr
    live = output.isatty() and os.environ.get("TERM") != "dumb"
    reporter = ConsoleReporter(output, live=live, colour=wants_colour(output))
    taken: set[str] = set()
    running: list[Runner] = []
    lease_errors: list[JumpstarterError] = []

    def end_lease(reason: str) -> None:
        lease_errors.append(LeaseEndedError(reason))
        for runner in running:
            runner.lose_board(lease_errors[0])

    async def listen(signals: AsyncIterator[int]) -> None:
        async for number in signals:
            for runner in running:
                runner.interrupt("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    async def run_on(root: DriverClient, planned: Iterable[BoardTest]) -> bool:
        """Run tests on a board. Returns whether to continue with the next board."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, signals)
                for one in planned:
                    own = folder / folder_name(one.name, taken) if folder else None
                    runner = Runner(one, root.node, tell=reporter.report, folder=own)
                    running[:] = [runner]
                    for error in lease_errors:
                        runner.lose_board(error)
                    result = await runner.run()
                    ended.append(result)
                    if own is not None:
                        write_folder(own, result)
                    if result.outcome is RunOutcome.INTERRUPTED:
                        break
                nursery.cancel_scope.cancel()
        return result.outcome is not RunOutcome.INTERRUPTED

    tests = [replace(one, board=run.board) if run.board else one for one in tests]
    try:
        async with connect_async(
            options.host,
            config=options.config,
            board=options.board,
            request=options.lease_request(),
            on_lease_end=end_lease,
        ) as root:
            await run_on(root, tests)
    except JumpstarterError as error:
        if not (boards := getattr(error, "boards", None)):
            raise

        # All boards are chosen before the first test runs.
        chosen = [choose_board_of_test(boards, one) for one in tests]
        for name, group in groupby(chosen, key=lambda pair: pair[0].name):
            async with connect_async(options.host, board=name) as root:
                if not await run_on(root, [test for _, test in group]):
                    break


def _new_folder(parent: Path) -> Path:
    """Create a folder for this run, whose name sorts by time."""
    name = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    for count in range(1000):
        folder = parent / (f"{name}_{count}" if count else name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise JumpstarterError(f"cannot create a folder in {parent}; choose another one with --results")
