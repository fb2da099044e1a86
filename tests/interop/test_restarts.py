"""The controller and its router are killed while exporters and clients of either kind are at work."""

from __future__ import annotations

import pytest

from tests.interop.lab import Lab

WHOSE = pytest.mark.parametrize("ours", [True, False], ids=["our exporter", "their exporter"])


@WHOSE
def test_a_killed_controller_is_a_notice_to_a_running_shell(own_lab: Lab, ours: bool) -> None:
    lab = own_lab
    daemon = lab.exporter("one", ours=ours)
    ann = lab.person("ann")
    go, ready = lab.home / "go", lab.home / "ready"
    script = f"j power on && touch {ready} && while ! test -e {go}; do sleep 0.1; done; j power off"
    with ann.shell("-l", "board=rpi4", script=script, theirs=False) as shell:
        lab.until(ready.exists)
        lab.kill()
        lab.start()
        go.touch()
        said, _ = shell.communicate(timeout=100)
    assert shell.returncode == 0, said
    assert "power off" in daemon.log.read_text().lower()
    lab.until(lambda: not lab.leases())
    lab.until(lambda: lab.status("one") == "AVAILABLE")
