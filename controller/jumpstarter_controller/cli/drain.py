"""What `drain` and `resume` do, and say."""

from __future__ import annotations

from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_controller.cli.admin_call import CALL_SECONDS, administration, call_admin, run_single

__all__ = ["drain", "resume"]

LOOK_SECONDS = 2.0
"""The interval in which the leases are counted while no controller runs, and in which one is looked for."""


def drain(reason: str, *, wait: bool, timeout: float, data: Path | None) -> int:
    """Have no lease begin; with `wait`, until none runs."""
    request = lab_pb2.DrainLabRequest(reason=reason)

    state = call_admin(data, lambda stub: stub.DrainLab(request, timeout=CALL_SECONDS))
    print_line(
        f"drained: no lease begins until `jumpstarter-controller resume`; {_leases(state)}", flush=True
    )
    if not wait or not state.active:
        return ExitCode.OK

    async def run() -> int:
        with trio.move_on_after(timeout):
            return await _until_none_runs(data, state.active)
        print_error_line(f"leases still run after {timeout:g} s; the lab stays drained")
        return ExitCode.TIMEOUT

    return run_single(run)


async def _until_none_runs(data: Path | None, last: int) -> int:
    """Wait until no lease runs, while controllers end and start."""
    said = ""
    while True:
        try:
            async with (
                administration(data) as (stub, is_controller),
                stub.WatchDrain(lab_pb2.WatchDrainRequest()) as call,
            ):
                async for state in call:
                    if not state.drained:
                        print_error_line("the lab was resumed meanwhile; leases begin again")
                        return ExitCode.FAILED
                    if last != state.active:
                        print_line(_leases(state), flush=True)
                    last = state.active
                    if not state.active:
                        return ExitCode.OK
                    if not is_controller:
                        break  # a controller could not start as long as we have the folder
        except RpcError as error:
            if error.code is not StatusCode.UNAVAILABLE:
                raise
            if str(error) != said:
                said = str(error)
                print_error_line(f"{said}; the wait goes on")
        await trio.sleep(LOOK_SECONDS)


def resume(*, data: Path | None) -> int:
    """Let leases begin again."""
    state = call_admin(data, lambda stub: stub.ResumeLab(lab_pb2.ResumeLabRequest(), timeout=CALL_SECONDS))
    print_line(f"leases begin again; {_leases(state)}")
    return ExitCode.OK


def _leases(state: lab_pb2.DrainState) -> str:
    runs = "1 lease runs" if state.active == 1 else f"{state.active or 'no'} leases run"
    waits = "1 waits" if state.waiting == 1 else f"{state.waiting or 'none'} wait"
    return f"{runs}, {waits}"
