"""The logs of a lab: the fields of their lines, and secrets that are in none of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.interop import exporters
from tests.support.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_leases_life_is_in_the_log_and_no_token(lab: Lab) -> None:
    options = ("--log-format", "json", "--log-level", "debug")
    endpoint = f"127.0.0.1:{exporters.free_port()}"
    controller = lab.start_controller("--router", endpoint, *options)
    lab.admin("router", "create", endpoint, "--save", lab.home / "router.pem")
    program = exporters.scripts() / "jumpstarter-router"
    router = lab.daemon(program, "--key", lab.home / "router.pem", "--listen", endpoint, *options)
    assert router.first_line()
    lab.exporter("one")
    files = [lab.client("ann"), lab.home / "one.yaml"]
    command = ["power", "on", "-l", "board=rpi4", "--client", str(files[0])]
    done = subprocess.run(
        [exporters.scripts() / "jumpstarter", *command],
        env=exporters.clean_environment(lab.home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    forged = lab.home / "forged.yaml"
    forged.write_text(files[0].read_text().replace("token: ", "token: x"))
    command[-1] = str(forged)
    refused = subprocess.run(
        [exporters.scripts() / "jumpstarter", *command], capture_output=True, timeout=60, check=False
    )
    assert refused.returncode != 0
    lab.until(lambda: "stream ended" in router.log.read_text())

    said = lines(controller.log)
    life = [line for line in said if line.get("lease")]
    (name,) = {line["lease"] for line in life}
    assert all(line["namespace"] == "default" and line["client"] == "ann" for line in life)
    words = [line["message"].partition(":")[0].partition(" after")[0] for line in life]
    assert words == ["lease created", "lease ready on one", "lease dialled", "lease ended"]
    # It was free, so the lease had it by the time that its creation was on the disk.
    assert {line["exporter"] for line in life} == {"one"}
    refusals = [line for line in said if line["message"].startswith("refused")]
    assert {(line["client"], line["level"]) for line in refusals} == {("ann", "warning")}
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in refusals)
    (stream,) = [line for line in lines(router.log) if line["message"].startswith("stream ended")]
    assert (stream["lease"], stream["client"], stream["exporter"]) == (name, "ann", "one")
    everything = controller.log.read_text() + router.log.read_text()
    for file in files:
        token = yaml.safe_load(file.read_text())["token"]
        for part in token.split(".")[1:]:
            assert part not in everything
    # Whatever looks like a token: those of the router, too.
    assert "eyJ" not in everything
