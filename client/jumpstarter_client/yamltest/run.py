"""Runs a test on the devices of an exporter.

Everything that can be checked in advance is checked before a board is used. Cancelling `run`, or a signal through
`interrupt`, ends the running step and continues with `always`, for at most `CLEANUP_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_client.base import DriverClient
from jumpstarter_client.console.expect import Expect
from jumpstarter_client.devices.selection import is_named, select
from jumpstarter_client.errors import NotFoundError
from jumpstarter_client.node import Node
from jumpstarter_client.requirements import missing_interfaces, unmet_requirement
from jumpstarter_client.yamltest.consoles import RunConsoles
from jumpstarter_client.yamltest.machine import (
    CleanUp,
    Do,
    EndTest,
    RetryPause,
    RunMachine,
    RunOutcome,
    RunPhase,
)
from jumpstarter_client.yamltest.model import BoardTest, StepCall, calls
from jumpstarter_client.yamltest.reader import locate
from jumpstarter_client.yamltest.run_events import (
    Event,
    RunEnded,
    RunStarted,
    StepEnded,
    StepSaid,
    StepStarted,
)
from jumpstarter_client.yamltest.variables import UnknownVariableError, as_text, substitute

__all__ = ["CLEANUP_SECONDS", "Runner"]

CLEANUP_SECONDS = 300.0
"""The time limit for all steps of `always`; each step has its own limit, too."""

STEP_GRACE_SECONDS = 1.0
"""How much longer a step may run than its limit, to fail with its own message."""

_UNUSABLE = frozenset({"missing"})
_NOT_THE_BOARD = frozenset({ExitCode.UNAVAILABLE, ExitCode.DENIED, ExitCode.LEASE_ENDED})
"""With these exit codes a step says nothing about the board: the test could not run."""
_EXIT_CODES = {
    RunOutcome.PASSED: ExitCode.OK,
    RunOutcome.FAILED: ExitCode.FAILED,
    RunOutcome.SKIPPED: ExitCode.SKIPPED,
    RunOutcome.INTERRUPTED: ExitCode.INTERRUPTED,
}


@dataclass
class _Context:
    """The shared state of the steps of one test."""

    test: BoardTest
    root: Node
    consoles: RunConsoles
    folder: Path | None
    variables: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    switched: int = 0
    said: list[str] = field(default_factory=list)
    tell: Callable[[Event], None] = lambda _event: None

    def input_file(self, path: str) -> str:
        return path if "://" in path else str(locate(self.test.document.file, path))

    def output_file(self, path: str) -> Path:
        file = (self.folder or Path.cwd()) / user_path(path)
        if self.folder is not None and file.is_relative_to(self.folder):
            file.parent.mkdir(parents=True, exist_ok=True)  # the folder may not exist yet
        return file

    def say(self, text: str) -> None:
        self.said.append(text)
        self.tell(StepSaid(text))

    def client(self, device: str) -> DriverClient:
        return _named(self.root, device).client

    def console(self, client: DriverClient) -> Expect:
        return self.consoles.of(client)


class Runner:
    """Runs one test once."""

    def __init__(
        self, test: BoardTest, root: Node, *, tell: Callable[[Event], None], folder: Path | None = None
    ) -> None:
        self._test = test
        self._root = root
        self._tell = tell
        self._folder = folder
        self._machine = RunMachine(test.steps, test.always)
        self._steps: list[StepEnded] = []
        self._main = trio.CancelScope()
        self._cleanup = trio.CancelScope(shield=True)
        self._interruption = ""
        self._loss: JumpstarterError | None = None
        self._is_cleaning = False
        self._exit_code = ExitCode.FAILED
        """The exit code if the test could not run."""

    def interrupt(self, reason: str) -> None:
        """End the test: the first call starts the clean-up, the second one ends that, too."""
        if self._is_cleaning:
            self._cleanup.cancel()
        self._interruption = reason
        self._main.cancel()

    def lose_board(self, error: JumpstarterError) -> None:
        """Handle the end of the lease: fail the running step, also one that only waits, and clean up."""
        if self._loss is None:
            self._loss = error
            self._main.cancel()

    async def run(self) -> RunEnded:
        """Run the test and return its result. A cancellation cleans up first."""
        started = trio.current_time()
        self._tell(RunStarted(self._test))
        consoles: tuple[str, ...] = ()
        try:
            devices = self._devices()
        except JumpstarterError as error:
            outcome, reason = RunOutcome.ERROR, str(error)
            self._exit_code = error.exit_code
        else:
            required = self._test.requires
            if reason := unmet_requirement(
                self._root, required.interfaces, required.labels, self._around(devices)
            ):
                outcome = RunOutcome.SKIPPED
            else:
                outcome, reason, consoles = await self._run_on(devices)
        ended = RunEnded(
            self._test,
            outcome,
            reason,
            trio.current_time() - started,
            tuple(self._steps),
            consoles,
            self._exit_code if outcome is RunOutcome.ERROR else _EXIT_CODES[outcome],
        )
        self._tell(ended)
        return ended

    # --- before a board is touched

    def _devices(self) -> dict[StepCall, Node]:
        """Find the device of each step. JumpstarterError with the position in the file if there is none."""
        found: dict[StepCall, Node] = {}
        absent = missing_interfaces(self._root, self._test.requires.interfaces)
        for call in calls(self._test.steps + self._test.always):
            interface = call.step.interface
            if not interface or interface in absent:
                continue
            token = call.device or self._test.board
            try:
                node, _ = select(self._root, interface, [token] if token else [], False)
                if reason := getattr(node.client, "stub_reason", None):
                    raise NotFoundError(f"{node.path} cannot be used: {reason}")
                if node.state in _UNUSABLE:
                    raise NotFoundError(f"{node.path} is {node.state}: {node.reason or 'no reason is given'}")
            except JumpstarterError as error:
                named_above = not call.device and token and not is_named(self._root, token)
                place = ("board",) if named_above else call.place
                raise self._test.document.error(place, str(error)) from None
            found[call] = node
        return found

    def _around(self, devices: dict[StepCall, Node]) -> list[Node]:
        """Return the devices of the test and the devices above them; all devices for a test that uses none."""
        nodes = []
        for node in devices.values() or self._root.walk():
            above: Node | None = node
            while above is not None:
                nodes.append(above)
                above = above.parent
        return nodes

    # --- on the board

    async def _run_on(self, devices: dict[StepCall, Node]) -> tuple[RunOutcome, str, tuple[str, ...]]:
        machine = self._machine
        unreceived: JumpstarterError | None = None
        with collapsed():
            async with trio.open_nursery() as nursery:
                folder = None if self._folder is None else self._folder / "consoles"
                consoles = RunConsoles(nursery, folder)
                context = _Context(
                    self._test,
                    self._root,
                    consoles,
                    self._folder,
                    dict(self._test.variables),
                    tell=self._tell,
                )
                try:
                    await self._run_main(context, devices)
                finally:
                    self._is_cleaning = True
                    if machine.phase is RunPhase.STEPS:
                        machine.stopped(RunOutcome.INTERRUPTED, "the run was cancelled")
                    with self._cleanup:
                        self._cleanup.deadline = trio.current_time() + CLEANUP_SECONDS
                        await self._run_steps(context, devices)
                    if machine.phase is RunPhase.ALWAYS:
                        why = self._interruption and "interrupted again"
                        machine.stopped(
                            RunOutcome.INTERRUPTED if why else RunOutcome.ERROR,
                            f"the clean-up was not finished: {why or f'it took longer than {CLEANUP_SECONDS:g} s'}",
                        )
                    try:
                        await consoles.leave()
                    except JumpstarterError as error:
                        unreceived = error
                    nursery.cancel_scope.cancel()
        end = machine.next()
        assert isinstance(end, EndTest)
        if unreceived is not None and end.outcome is RunOutcome.PASSED:
            end = EndTest(RunOutcome.ERROR, _sentence(unreceived))
            self._exit_code = unreceived.exit_code
        return end.outcome, end.reason, tuple(str(path) for path in consoles.logs.values())

    async def _run_main(self, context: _Context, devices: dict[StepCall, Node]) -> None:
        machine, seconds = self._machine, self._test.seconds
        with self._main:
            if seconds is not None:
                self._main.deadline = trio.current_time() + seconds
            try:
                for node in devices.values():
                    if node.interface == "serial":
                        await context.consoles.open(node.client)
            except JumpstarterError as error:
                self._exit_code = error.exit_code
                machine.stopped(RunOutcome.ERROR, _sentence(error))
                return
            await self._run_steps(context, devices)
        if machine.phase is RunPhase.STEPS:
            if self._interruption:
                machine.stopped(RunOutcome.INTERRUPTED, self._interruption)
            elif self._loss is not None:
                self._exit_code = self._loss.exit_code
                machine.stopped(RunOutcome.ERROR, _sentence(self._loss))
            else:
                machine.stopped(RunOutcome.FAILED, f"the test did not finish within {seconds:g} s")

    async def _run_steps(self, context: _Context, devices: dict[StepCall, Node]) -> None:
        """Run steps until the clean-up starts, or until it ends."""
        while True:
            match self._machine.next():
                case Do() as do:
                    await self._do(do, context, devices)
                case RetryPause(seconds):
                    await trio.sleep(seconds)
                case CleanUp() if self._is_cleaning:
                    pass
                case CleanUp() | EndTest():
                    return

    async def _do(self, do: Do, context: _Context, devices: dict[StepCall, Node]) -> None:
        call, phase = do.call, self._machine.phase
        node = devices.get(call)
        device = node.path if node else ""
        context.said = []
        title = _title(call, context.variables)
        self._tell(StepStarted(title, device, phase, do.attempt, do.depth))
        started = trio.current_time()
        outcome, reason, result = RunOutcome.INTERRUPTED, "", None
        try:
            result = await self._attempt(call, context, node)
            outcome = RunOutcome.PASSED
            self._machine.succeeded()
        except trio.TooSlowError:
            outcome, reason = RunOutcome.FAILED, f"not finished within {call.seconds:g} s"
            self._machine.failed(f"{title}: {reason}")
        except (JumpstarterError, OSError, ValueError, trio.BrokenResourceError) as error:
            code = getattr(error, "exit_code", ExitCode.FAILED)
            outcome = RunOutcome.ERROR if code in _NOT_THE_BOARD else RunOutcome.FAILED
            reason = _sentence(error)
            was_good = self._machine.outcome is RunOutcome.PASSED
            self._machine.failed(f"{title}: {reason}", outcome)
            if was_good and self._machine.outcome is RunOutcome.ERROR:  # the first failure decides
                self._exit_code = code
        except trio.Cancelled:
            if self._loss is not None and not self._interruption:
                outcome, reason = RunOutcome.ERROR, _sentence(self._loss)
            raise
        finally:
            ended = StepEnded(
                title,
                device,
                phase,
                do.attempt,
                outcome,
                reason or ("interrupted" if outcome is RunOutcome.INTERRUPTED else ""),
                trio.current_time() - started,
                result,
                tuple(context.said),
                self._test.document.error(call.place, "").line,
            )
            self._steps.append(ended)
            self._tell(ended)

    async def _attempt(self, call: StepCall, context: _Context, node: Node | None) -> object:
        step, document = call.step, self._test.document
        place = (*call.place, step.name)
        arguments = step.arguments(document, call.given, place, context.variables)
        leading = (node.client, context) if node else (context,)
        context.seconds = call.seconds
        context.switched += node is not None and node.interface != "serial"
        # A step that knows its limit fails with a better message.
        with collapsed(), trio.fail_after(call.seconds + STEP_GRACE_SECONDS):
            result = await step.function(*leading, **arguments)
        if call.capture:
            context.variables[call.capture] = result
        return result


def _title(call: StepCall, variables: dict[str, Any]) -> str:
    try:
        title = " ".join(as_text(substitute(call.title, variables)).split())
    except UnknownVariableError:
        return call.title  # the step reports the error itself
    return title if len(title) <= 80 else f"{title[:77]}..."


def _sentence(error: BaseException) -> str:
    return getattr(error, "details", "") or str(error) or type(error).__name__


def _named(root: Node, device: str) -> Node:
    paths = {node.path: node for node in root.walk() if node.path}
    if device not in paths:
        raise NotFoundError(f"no device {device!r}; {nearest(device, paths)}")
    return paths[device]
