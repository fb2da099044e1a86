"""The command line against a daemon with the virtual board, as a user types it."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jumpstarter_drivers.virtual.image import make_image

from tests.e2e.conftest import Lab
from tests.interop import exporters
from tests.support.images import mbr


def status(lab: Lab, device: str = "rpi4") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.ok("storage", "status", device, "-o", "json"))
    return found


def read_until(output: Any, wanted: str) -> str:
    seen = ""
    while wanted not in seen:
        data = os.read(output.fileno(), 65536).decode()
        assert data, f"ended without {wanted!r}: {seen!r}"
        seen += data
    return seen


def test_flash_boot_log_in_and_power_cycle(lab: Lab) -> None:
    assert "rpi4" in lab.ok("devices")
    image = lab.home / "hello.img"
    made = make_image(image, "hello", "2.0", 8 << 20)
    assert "verified" in lab.ok("storage", "flash", "rpi4", str(image))
    assert (lab.home / "card.img").read_bytes() == image.read_bytes()
    with lab.start("jumpstarter", "serial", "pipe", "rpi4") as console:
        try:
            assert console.stdin is not None
            assert console.stdout is not None
            assert console.stderr is not None
            console.stderr.readline()
            lab.ok("power", "on", "rpi4")
            assert made.digest[:12] in read_until(console.stdout, "login: ")
            console.stdin.write("root\nuname -n\n")
            console.stdin.flush()
            assert "\nrpi4\r\n" in read_until(console.stdout, "rpi4\r\n# ")
            lab.ok("power", "cycle", "rpi4", "--wait", "1ms")
            code, said = lab.refused("power", "cycle", "rpi4", "--wait", "1 week")
            assert (code, "is not a duration" in said, "\n" in said) == (2, True, False)
            assert "image hello 2.0" in read_until(console.stdout, "login: ")
        finally:
            console.terminate()
            console.communicate(timeout=10)


def test_image_from_a_pipe_and_dump_back(lab: Lab) -> None:
    image = lab.home / "hello.img"
    make_image(image, "piped", "1.0", 1 << 20)
    lab.ok("storage", "flash", "rpi4", "-", stdin=gzip.compress(image.read_bytes()))
    lab.ok("storage", "dump", "rpi4", "dump.img")
    assert (lab.home / "dump.img").read_bytes() == image.read_bytes()
    code, said = lab.refused("storage", "dump", "rpi4", "dump.img")
    assert code
    assert "--force" in said


def test_image_larger_than_the_card(lab: Lab) -> None:
    image = lab.home / "large.img"
    image.write_bytes(mbr() + bytes(2_000_000))
    code, said = lab.refused("storage", "flash", "full", str(image))
    assert code == 1
    assert "takes 1000000" in said
    assert len(said.splitlines()) == 1
    assert (status(lab, "full")["position"], status(lab, "full")["content"]) == ("dut", "as found")


def test_damaged_image_stays_away_from_the_board(lab: Lab) -> None:
    image = lab.home / "damaged.img.gz"
    image.write_bytes(gzip.compress(mbr() + os.urandom(3_000_000))[:-5000])
    code, said = lab.refused("storage", "flash", "rpi4", str(image), "--whole")
    assert code
    assert "ends too early" in said
    assert len(said.splitlines()) == 1
    assert (status(lab)["position"], status(lab)["content"]) == ("off", "incomplete")
    code, said = lab.refused("storage", "dut", "rpi4")
    assert "incomplete image" in said
    lab.ok("storage", "dut", "rpi4", "--force")


def test_wrong_path_is_one_sentence(lab: Lab) -> None:
    code, said = lab.refused("storage", "flash", "rpi4", "none.img")
    assert code == 3
    assert "none.img does not exist" in said
    assert len(said.splitlines()) == 1


def test_unknown_option_is_named(lab: Lab) -> None:
    code, said = lab.refused("storage", "flash", "rpi4", "--wrong", "hello.img")
    assert code == 2
    assert "no option --wrong" in said
    assert len(said.splitlines()) == 1


class _Nothing(BaseHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def empty_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_url_that_is_not_there_changes_nothing(lab: Lab, empty_server: str) -> None:
    code, said = lab.refused("storage", "flash", "rpi4", f"{empty_server}/none.img")
    assert code
    assert "404" in said.replace(empty_server, ""), "and not in its port"
    assert len(said.splitlines()) == 1
    assert (status(lab)["position"], status(lab)["content"]) == ("dut", "as found")


def test_card_that_vanishes_in_the_middle(lab: Lab) -> None:
    with lab.start("jumpstarter", "storage", "flash", "rpi4", "-", "--force", "--whole") as flash:
        assert flash.stdin is not None
        flash.stdin.write("x" * 100_000)
        flash.stdin.flush()
        wait_until_writing(lab)
        (lab.home / "card.img").unlink()
        _, said = flash.communicate(timeout=30)
    assert flash.returncode
    assert "does not exist" in said
    assert (status(lab)["position"], status(lab)["content"]) == ("off", "incomplete")


def test_interrupted_flash_leaves_the_card_off_and_incomplete(lab: Lab) -> None:
    with lab.start("jumpstarter", "storage", "flash", "rpi4", "-", "--force", "--whole") as flash:
        assert flash.stdin is not None
        flash.stdin.write("x" * 100_000)
        flash.stdin.flush()
        wait_until_writing(lab)
        flash.kill()
        flash.communicate(timeout=30)
    while status(lab)["position"] != "off":
        pass
    found = status(lab)
    assert found["content"] == "incomplete"
    assert "lost" in found["reason"]
    assert Path(lab.home / "card.img.incomplete").exists()


def test_exporter_killed_in_the_middle_of_a_flash_remembers_it(lab: Lab) -> None:
    with lab.start("jumpstarter", "storage", "flash", "rpi4", "-", "--force", "--whole") as flash:
        assert flash.stdin is not None
        flash.stdin.write("x" * 100_000)
        flash.stdin.flush()
        wait_until_writing(lab)
        lab.daemon.process.kill()
        _, said = flash.communicate(timeout=30)
    assert flash.returncode
    assert "Traceback" not in said
    command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run", "--config"]
    with exporters.running([*command, lab.home / "exporter.yaml", "--socket", lab.socket], lab.home) as again:
        again.first_line()
        lab.refused("storage", "dut", "rpi4")
        found = status(lab)
        assert (found["content"], found["reason"]) == (
            "incomplete",
            "the exporter stopped while it was written",
        )


def wait_until_writing(lab: Lab) -> None:
    while status(lab)["content"] != "writing":
        pass
