"""A board by its label, with Jumpstarter 0.9.0's client and exporter and with ours, in every combination."""

from __future__ import annotations

import pytest

from tests.interop.lab import Lab


@pytest.mark.parametrize("our_exporter", [True, False], ids=["our exporter", "their exporter"])
def test_a_board_by_label_for_either_client(lab: Lab, our_exporter: bool) -> None:
    board = "ours" if our_exporter else "theirs"
    daemon = lab.exporter(f"exporter-{board}", ours=our_exporter, label=f"board={board}")
    ann = lab.person(f"ann-{board}")
    selector = ("-l", f"board={board}")
    for _ in range(2):
        ann.jmp("shell", *selector, inside=("j", "power", "on"))
    ann.ours("power", "on", *selector)
    ann.ours("shell", *selector, inside=("j", "power", "off"))
    log = daemon.log.read_text()
    assert log.lower().count("power on") >= 3
    assert "power off" in log.lower()
    assert lab.leases() == [], "a lease was left behind"


def test_what_is_wrong_is_one_sentence(lab: Lab) -> None:
    lab.exporter("one", ours=True)
    ann = lab.person("wrong")
    for words, sentence in {
        ("-l", "board=none"): "no exporter matches board=none",
        ("-l", "board in"): "expected (",
        ("--exporter-name", "two"): "there is no exporter two",
        ("--lease", "nothing"): "there is no lease nothing",
        ("-l", "board=rpi4", "--duration", "soon"): "is not a duration",
    }.items():
        done = ann.ours("power", "on", *words, check=False)
        assert done.returncode != 0
        assert sentence in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    lab.admin("client", "delete", "wrong")
    done = ann.ours("power", "on", "-l", "board=rpi4", check=False)
    assert "it was deleted" in done.stderr
