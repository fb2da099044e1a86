"""The controller and its router are killed while exporters and clients of either kind are at work."""

from __future__ import annotations

import pytest

from tests.interop.lab import Lab

WHOSE = pytest.mark.parametrize("ours", [True, False], ids=["our exporter", "their exporter"])


@WHOSE
@pytest.mark.parametrize("theirs", [False, True], ids=["our client", "their client"])
def test_a_shell_outlives_the_controller_and_the_router(own_lab: Lab, ours: bool, theirs: bool) -> None:
    """What runs goes on; a command that needs the board afterwards gets a new connection."""
    lab = own_lab
    daemon = lab.exporter("one", ours=ours)
    ann = lab.person("ann")
    go, ready, went_on = (lab.home / name for name in ("go", "ready", "went-on"))
    script = f"j power on && touch {ready}; while ! test -e {go}; do sleep 0.1; done; touch {went_on}"
    if not theirs:
        script += " && j power off"
    with ann.shell("-l", "board=rpi4", "--duration", "10m", script=script, theirs=theirs) as shell:
        lab.until(lambda: ready.exists() or shell.poll() is not None)
        [before] = lab.leases()
        lab.kill_controller()
        lab.start_controller()
        [after] = lab.leases()
        assert (after.name, after.exporter, after.effective_begin_time) == (
            before.name,
            before.exporter,
            before.effective_begin_time,
        )
        go.touch()
        if theirs:
            # Its own connection to the board broke with the router, which it reports in its own ways and times.
            lab.until(went_on.exists)
        else:
            said, _ = shell.communicate(timeout=100)
            assert shell.returncode == 0, said
            assert "power off" in daemon.log.read_text().lower()
    for lease in lab.leases():
        ann.jmp("delete", "leases", lease.name.rpartition("/")[2])
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    ann.jmp("shell", "-l", "board=rpi4", inside=("j", "power", "on"))


def test_an_idle_exporter_of_theirs_comes_back_by_itself_beside_one_of_ours(own_lab: Lab) -> None:
    lab = own_lab
    lab.exporter("mine", ours=True, label="board=mine")
    lab.exporter("theirs", ours=False, label="board=theirs")
    ann = lab.person("ann")
    for _ in range(2):
        lab.kill_controller()
        lab.start_controller()
    for board in ("mine", "theirs"):
        lab.until(lambda name=board: lab.status(name) == "AVAILABLE")  # type: ignore[misc]
        ann.jmp("shell", "-l", f"board={board}", inside=("j", "power", "on"))
        ann.ours("power", "on", "-l", f"board={board}")
