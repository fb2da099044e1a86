from __future__ import annotations

import os
import signal

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.process import exit_code_of, open_daemon


async def test_sighup_reloads_until_a_signal_ends_the_daemon() -> None:
    reloads = 0

    async def reload() -> None:
        nonlocal reloads
        reloads += 1
        await trio.sleep_forever()  # and is cancelled at the end

    async def signals() -> None:
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            await wait_all_tasks_blocked()
            assert reloads == count
        os.kill(os.getpid(), signal.SIGTERM)

    with open_daemon() as daemon, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signals)
            assert await daemon.wait_for_stop(reload) is signal.SIGTERM


async def test_a_second_signal_is_heard_by_the_next_wait_and_sighup_is_ignored_there() -> None:
    with open_daemon() as daemon, trio.fail_after(10):
        os.kill(os.getpid(), signal.SIGINT)
        assert await daemon.wait_for_stop() is signal.SIGINT
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await daemon.wait_for_stop() is signal.SIGTERM


async def test_signals_after_a_cancelled_wait_are_kept() -> None:
    with open_daemon() as daemon, trio.fail_after(10):
        with trio.move_on_after(0):
            await daemon.wait_for_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await daemon.wait_for_stop() is signal.SIGTERM


async def test_the_error_of_a_reload_ends_the_wait() -> None:
    async def reload() -> None:
        raise ValueError("broken")

    with open_daemon() as daemon, trio.fail_after(10):
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(ValueError, match="broken"):
            await daemon.wait_for_stop(reload)


def test_only_sigint_has_an_exit_code_of_its_own() -> None:
    assert exit_code_of(signal.SIGINT) is ExitCode.INTERRUPTED
    assert exit_code_of(signal.SIGTERM) is ExitCode.OK
    assert exit_code_of(None) is ExitCode.OK
