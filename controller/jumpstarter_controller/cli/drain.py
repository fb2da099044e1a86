"""What `drain` and `resume` do, and say."""

from __future__ import annotations

from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.lab.v1.lab_grpc import AdminServiceStub
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_controller.cli.admin_call import CALL_SECONDS, call_admin

__all__ = ["drain", "resume"]


def drain(reason: str, *, wait: bool, timeout: float, data: Path | None) -> int:
    """Have no lease begin; with `wait`, until none runs."""
    request = lab_pb2.DrainLabRequest(reason=reason)

    async def ask(stub: AdminServiceStub) -> int:
        state = await stub.DrainLab(request, timeout=CALL_SECONDS)
        print_line(
            f"drained: no lease begins until `jumpstarter-controller resume`; {_leases(state)}", flush=True
        )
        if not wait or not state.active:
            return ExitCode.OK
        with trio.move_on_after(timeout):
            return await _until_none_runs(stub)
        print_error_line(f"leases still run after {timeout:g} s; the lab stays drained")
        return ExitCode.TIMEOUT

    return call_admin(data, ask)


async def _until_none_runs(stub: AdminServiceStub) -> int:
    last = None
    async with stub.WatchDrain(lab_pb2.WatchDrainRequest()) as call:
        async for state in call:
            if not state.drained:
                print_error_line("the lab was resumed meanwhile; leases begin again")
                return ExitCode.FAILED
            if last not in {None, state.active}:
                print_line(_leases(state), flush=True)
            last = state.active
    return ExitCode.OK


def resume(*, data: Path | None) -> int:
    """Let leases begin again."""
    state = call_admin(data, lambda stub: stub.ResumeLab(lab_pb2.ResumeLabRequest(), timeout=CALL_SECONDS))
    print_line(f"leases begin again; {_leases(state)}")
    return ExitCode.OK


def _leases(state: lab_pb2.DrainState) -> str:
    runs = "1 lease runs" if state.active == 1 else f"{state.active or 'no'} leases run"
    waits = "1 waits" if state.waiting == 1 else f"{state.waiting or 'none'} wait"
    return f"{runs}, {waits}"
