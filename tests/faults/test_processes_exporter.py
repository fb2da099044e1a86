"""An exporter that is stopped, killed, started twice or not wanted any more, in the middle of a lease."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.shell import LONG, Shell
from tests.interop.exporters import Daemon
from tests.support.lab import Lab
from tests.support.programs import clock_rate


@pytest.fixture
def lab(warm_lab: Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def again(lab: Lab, name: str = "one") -> Daemon:
    """Another process of an exporter that there is."""
    return lab.start_exporter(name, wait=False)


def is_alive(number: int) -> bool:
    """Whether a process still runs; one that has ended stays a zombie until it is waited for."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def free(lab: Lab) -> bool:
    return "AVAILABLE" in lab.admin("exporter", "list") and "lease" not in lab.admin("exporter", "list")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_lease_outlives_a_restart_of_its_exporter(lab: Lab, how: signal.Signals) -> None:
    daemon = lab.exporter("one")
    shell = Shell(lab, lab.client("ann"))
    assert shell.do("j power on") == (0, "")
    # A client that keeps its connection, as a test run does.
    script = (
        "from jumpstarter_client import env\nimport pathlib, time\n"
        "with env() as root:\n"
        "    root.power.on()\n    pathlib.Path('holding').touch()\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.05)\n"
        "    root.power.off()\n"
    )
    (lab.home / "held.py").write_text(script)
    held = shell.begin("python held.py")
    lab.until((lab.home / "holding").exists)
    daemon.process.send_signal(how)
    began = time.monotonic()
    assert daemon.process.wait(20) == (0 if how is signal.SIGTERM else -how)
    assert time.monotonic() - began < 10
    if how is signal.SIGTERM:
        assert "OFFLINE" in lab.admin("exporter", "list")
        assert "kept for the next start" in daemon.log.read_text()
    restarted = again(lab)
    (lab.home / "go").touch()
    code, said = shell.result(held)
    assert code == 0, said
    assert "the exporter was restarted" in said
    assert shell.do("j power on")[0] == 0
    log = restarted.log.read_text()
    assert log.count("power off") == 1
    assert log.count("power on") == 1
    shell.end()
    lab.until(lambda: free(lab))


def test_a_call_that_runs_when_the_exporter_is_stopped_ends_with_a_sentence(lab: Lab) -> None:
    daemon = lab.exporter("one")
    shell = Shell(lab, lab.client("ann"))
    cycle = shell.begin("j power cycle --wait 600")
    lab.until(lambda: "power off" in daemon.log.read_text())
    daemon.process.terminate()
    code, said = shell.result(cycle, 20)
    assert code != 0
    assert "shutting down" in said
    assert said.count("\n") == 1, said
    again(lab)
    shell.end()
    lab.until(lambda: free(lab))


def test_a_second_signal_ends_it_at_once(lab: Lab) -> None:
    name = lab.home / "one.yaml"
    lab.admin("exporter", "create", "one", "--label", "board=rpi4", "--save", name)
    marks = lab.home / "marks"
    hook = f"hooks:\n  afterLease: {{script: 'echo $$ > {marks}; sleep 60'}}\n"
    name.write_text(
        name.read_text().replace("export: {}\n", "export:\n  power: {type: power.MockPower}\n") + hook
    )
    daemon = again(lab)
    lab.until(lambda: free(lab))
    with clock_rate(5):
        shell = Shell(lab, lab.client("ann"))
    shell.leave()
    lab.until(lambda: marks.exists() and marks.read_text().endswith("\n"))
    daemon.process.terminate()
    lab.until(lambda: "SIGTERM: ending" in daemon.log.read_text())
    daemon.process.terminate()
    assert daemon.process.wait(3) == 128 + signal.SIGTERM
    lab.until(lambda: not is_alive(int(marks.read_text())))
    said = shell.end()
    assert "the board cannot be reached" in said or "lost the connection to the board" in said


def test_sighup_takes_up_a_changed_file_after_the_lease(lab: Lab) -> None:
    daemon = lab.exporter("one")
    file = lab.home / "one.yaml"
    shell = Shell(lab, lab.client("ann"))
    file.write_text(file.read_text() + "\nmotd: it has changed\n")
    daemon.process.send_signal(signal.SIGHUP)
    lab.until(lambda: "one: changes after lease " in daemon.log.read_text())
    assert shell.do("j power on") == (0, "")
    shell.end()
    lab.until(lambda: "the board one is served with its new configuration" in daemon.log.read_text())
    lab.until(lambda: free(lab))
    assert daemon.process.poll() is None


def test_a_second_process_of_one_exporter_does_no_harm(lab: Lab) -> None:
    daemon = lab.exporter("one")
    shell = Shell(lab, lab.client("ann"))
    code, why = again(lab).process.wait(LONG), lab.exporters["one"].log.read_text()
    assert (code, "one.yaml is served by process" in why) == (5, True)
    # On another host, with a copy of its configuration:
    (lab.home / "copy.yaml").write_text((lab.home / "one.yaml").read_text())
    second = again(lab, "copy")
    lab.until(lambda: "served by another process already" in second.log.read_text())
    lab.until(lambda: "another process, at ipv4:127.0.0.1" in daemon.log.read_text())
    assert shell.do("j power on") == (0, "")
    second.end()
    assert shell.do("j power off") == (0, "")
    assert "LEASE_READY" in lab.admin("exporter", "list")
    shell.end()
    lab.until(lambda: free(lab))
    log = daemon.log.read_text()
    assert log.count(" begins\n") == 1
    assert " begins\n" not in second.log.read_text()


def test_an_exporter_that_is_deleted_in_a_lease_puts_its_board_in_order(lab: Lab) -> None:
    daemon = lab.exporter("one")
    file = lab.home / "one.yaml"
    file.write_text(f"{file.read_text()}hooks:\n  afterLease: {{script: echo put in order}}\n")
    daemon.process.terminate()
    assert daemon.process.wait(15) == 0
    daemon = again(lab)
    shell = Shell(lab, lab.client("ann"))
    assert shell.do("j power on") == (0, "")
    lab.admin("exporter", "delete", "one")
    lab.until(lambda: "has ended" in daemon.log.read_text())
    assert "put in order" in daemon.log.read_text()
    # It ends by itself when it hears of it, which may be after its exporter has.
    assert "exporter one was deleted" in shell.process.communicate(timeout=LONG)[1]


def test_an_exporter_that_was_deleted_says_so_and_is_taken_back(lab: Lab) -> None:
    daemon = lab.exporter("one")
    lab.admin("exporter", "delete", "one")
    lab.until(lambda: "rejected this exporter" in daemon.log.read_text())
    said = [line for line in daemon.log.read_text().splitlines() if line.startswith("ERROR")]
    assert len(said) == 1, said
    assert daemon.process.poll() is None
    daemon.process.terminate()
    assert daemon.process.wait(15) == 0
