"""Tests in YAML, run as a user runs them, on the virtual board."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jumpstarter_drivers.virtual.image import make_image

from tests.e2e.conftest import Lab

BOOT = """
name: boot
board: rpi4
variables: {image: hello.img}
requires: {interfaces: [power, serial, storage]}
steps:
  - storage.flash: ${image}
  - power.on
  - serial.expect: {regex: "image (\\\\w+)"}
    capture: image_name
  - serial.expect: "login: "
  - serial.send: root
  - serial.expect: "# "
  - log: it runs ${image_name}
always:
  - power.off
  - storage.dut
"""


def write(lab: Lab, name: str, text: str) -> str:
    (lab.home / name).write_text(text)
    return name


def result(lab: Lab, name: str) -> dict[str, Any]:
    [file] = lab.home.glob(f"jumpstarter-results/*/{name}/result.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def folder(lab: Lab, name: str) -> Path:
    [found] = lab.home.glob(f"jumpstarter-results/*/{name}")
    return found


def is_on(lab: Lab) -> bool:
    """The board's power meter."""
    reading = json.loads(lab.ok("power", "read", "rpi4", "-o", "json"))
    return float(reading["current"]) > 0


def connected_to(lab: Lab) -> str:
    return str(json.loads(lab.ok("storage", "status", "rpi4", "-o", "json"))["position"])


def test_a_boot_test_passes_and_leaves_a_folder(lab: Lab) -> None:
    make_image(lab.home / "hello.img", "hello", "2.0", 4 << 20)
    said = lab.ok("test", write(lab, "boot.yaml", BOOT), "--junit", "out/junit.xml")
    assert "it runs hello" in said
    assert "1 passed" in said
    found = result(lab, "boot")
    assert found["outcome"] == "passed"
    assert [step["title"] for step in found["steps"]][-2:] == ["power.off", "storage.dut"]
    console = (folder(lab, "boot") / "consoles" / "rpi4.serial.log").read_bytes()
    assert b"U-Boot" in console
    assert console.rstrip().endswith(b"#")
    suites = ElementTree.parse(lab.home / "out" / "junit.xml").getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("1", "0", "0")
    assert not is_on(lab)


def test_a_failing_test_says_why_and_cleans_up(lab: Lab) -> None:
    text = """
name: fails
board: rpi4
steps:
  - storage.host:
  - power.on
  - serial.expect: a prompt that never comes
    timeout: 500ms
    retries: 1
  - log: never reached
always:
  - power.off
  - call: {device: rpi4.power, method: no_such_method}
  - storage.dut
"""
    done = lab.run("test", write(lab, "fails.yaml", text))
    assert done.returncode == 1, done
    assert "FAILED" in done.stdout
    assert "never reached" not in done.stdout
    summary = (folder(lab, "fails") / "summary.txt").read_text()
    assert "'a prompt that never comes' did not come within 0.5 s" in summary
    assert "(try 2)" in summary
    assert "Boot failed: flash an image" in summary
    assert "no_such_method" in summary
    assert not is_on(lab)
    assert connected_to(lab) == "dut"


def test_ctrl_c_leaves_the_board_off_and_its_storage_on_the_dut(lab: Lab) -> None:
    text = """
name: interrupted
board: rpi4
steps:
  - power.on
  - storage.host
  - serial.expect: never
always:
  - power.off
  - storage.dut
"""
    with lab.start("jumpstarter", "test", write(lab, "slow.yaml", text)) as run:
        try:
            assert run.stdout is not None
            while "storage.host" not in run.stdout.readline():
                pass
            run.send_signal(signal.SIGINT)
            rest, errors = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 130, (rest, errors)
    assert "interrupted  interrupted in" in rest
    assert not is_on(lab)
    assert connected_to(lab) == "dut"
    assert result(lab, "interrupted")["outcome"] == "interrupted"


def test_mistakes_are_found_before_a_board_is_touched(lab: Lab) -> None:
    lab.ok("power", "on", "rpi4")
    first = "board: rpi4\nsteps:\n  - power.off\n"
    for text, code, words in [
        (
            first + "  - power.offf",
            2,
            "bad.yaml:4:5: steps[1].power.offf: unknown step 'power.offf'; did you mean",
        ),
        (
            first + "  - power.cycle: {wait: [1]}",
            2,
            "bad.yaml:4:19: steps[1].power.cycle.wait: this is a list; it takes a number or text",
        ),
        (first + "  - storage.flash: gone.img", 2, "not found; check the path"),
        (first.replace("rpi4", "rpi5"), 2, "no device 'rpi5'"),
    ]:
        done = lab.run("test", write(lab, "bad.yaml", text), "--no-results")
        assert done.returncode == code, done
        assert words in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert is_on(lab)
    lab.ok("power", "off", "rpi4")


def test_what_the_hardware_lacks_skips_the_test(lab: Lab) -> None:
    good = write(lab, "good.yaml", "steps: [log: hello]")
    camera = write(lab, "camera.yaml", "requires: {interfaces: [camera]}\nsteps: [power.on]")
    labels = write(lab, "labels.yaml", "requires: {labels: {soc: vax}}\nsteps: [log: hello]")
    done = lab.run("test", camera, labels, "--no-results")
    assert done.returncode == 7, done
    assert "no device has the interface 'camera'" in done.stdout
    assert "no device has the labels soc=vax" in done.stdout
    assert lab.run("test", camera, good, "--no-results").returncode == 0


def test_an_exporter_that_dies_is_an_error_of_the_test(lab: Lab) -> None:
    text = "board: rpi4\nsteps: [power.on, {serial.expect: never}]\nalways: [power.off]"
    with lab.start("jumpstarter", "test", write(lab, "dies.yaml", text), "--no-results") as run:
        try:
            assert run.stdout is not None
            while "power.on" not in run.stdout.readline():
                pass
            lab.daemon.process.kill()
            rest, errors = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 4, (rest, errors)
    assert "the console ended" in rest
    assert "Traceback" not in errors
