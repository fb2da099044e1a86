"""The row of pictures: a camera's through our exporter, and from its ustreamer."""

from __future__ import annotations

import http.client
import io
import os
import random
import shutil
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jumpstarter_client import connect
from PIL import Image

from tests.bench.kube import LeftOutError
from tests.bench.result import Result, filled, interleaved
from tests.bench.upstream import Bench
from tests.interop import exporters
from tests.support.fake_camera import FakeCamera

PICTURES = 40
CONFIG = """apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: video}}
export:
  camera:
    type: video.UStreamer
    config:
      device: {node}
      executable: {program}
      args: {{format: MJPEG, encoder: HW}}
"""


def snapshot(bench: Bench, repeats: int) -> Result:
    """A picture of a camera that is warm: another viewer looks at it all the time."""
    if shutil.which("ustreamer") is None:
        raise LeftOutError("missing: ustreamer; apt install ustreamer")
    camera = FakeCamera(bench.folder("camera"))
    camera.show(_picture())
    config = bench.home / "video.yaml"
    config.write_text(CONFIG.format(node=camera.node, program=camera.program))
    with (
        exporters.our_unix(config, bench.folder("video"), bench.ours) as ours,
        connect(ours.address) as root,
    ):
        client = root.camera
        client.snapshot_bytes()
        door = _door(camera)
        p50 = interleaved(
            repeats, lambda: _median(lambda: _snapshot_of(door)), lambda: _median(client.snapshot_bytes)
        )
    row = Result("snapshot", "ustreamer", "a picture of a warm camera, p50", "s", 0, 0, 1.5, True, 0)
    return filled(row, *p50, detail={"pictures in a round": PICTURES})


def _picture() -> bytes:
    """About as large as a camera's: noise does not compress."""
    found = io.BytesIO()
    Image.frombytes("RGB", (640, 480), random.Random(1).randbytes(640 * 480 * 3)).save(
        found, "JPEG", quality=50
    )
    return found.getvalue()


def _median(take: Callable[[], object]) -> float:
    spent = []
    for _ in range(PICTURES):
        begun = time.perf_counter()
        take()
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def _door(camera: FakeCamera) -> Path:
    """The unix socket of the camera's ustreamer."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # one that has ended meanwhile
                words = (process / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(camera.node) in words and b"--unix" in words:
                    return Path(os.fsdecode(words[words.index(b"--unix") + 1]))
    raise AssertionError("no ustreamer runs for the camera")


def _snapshot_of(door: Path) -> bytes:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(os.fspath(door))
        connection.request("GET", "/snapshot")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()
