"""The metrics of a lab, read with Prometheus's own parser, and the answers to probes."""

from __future__ import annotations

import base64
import datetime
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
import yaml
from jumpstarter_controller.process.certificates import own_certificate
from prometheus_client.parser import text_string_to_metric_families

from tests.interop import exporters
from tests.support.administration import administer
from tests.support.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def metrics(port: int) -> dict[str, float]:
    """Each sample as `name{label=value,…}`."""
    found = {}
    for family in text_string_to_metric_families(get(port, "/metrics")):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_a_labs_numbers(lab: Lab) -> None:
    ports = [exporters.free_port() for _ in range(3)]
    endpoint = f"127.0.0.1:{ports[2]}"
    lab.start_controller("--router", endpoint, "--metrics-listen", f"127.0.0.1:{ports[0]}")
    assert get(ports[0], "/healthz") == get(ports[0], "/readyz") == "ok\n"
    lab.admin("router", "create", endpoint, "--save", lab.home / "router.pem")
    program = exporters.scripts() / "jumpstarter-router"
    options = ("--listen", endpoint, "--metrics-listen", f"127.0.0.1:{ports[1]}")
    lab.daemon(program, "--key", lab.home / "router.pem", *options).first_line()
    lab.exporter("one")
    ann = lab.client("ann")

    def use(file: Path) -> int:
        command = [exporters.scripts() / "jumpstarter", "power", "on", "-l", "board=rpi4", "--client", file]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    assert use(ann) == 0
    forged = lab.home / "forged.yaml"
    forged.write_text(ann.read_text().replace("token: ", "token: x"))
    assert use(forged) != 0
    # The exporter says after its lease that it is free again, and the router when both sides are gone.
    lab.until(lambda: metrics(ports[0]).get("jumpstarter_exporters{namespace=default,status=available}") == 1)
    lab.until(lambda: metrics(ports[1])["jumpstarter_router_streams{state=joined}"] == 0)
    found = metrics(ports[0])
    assert found["jumpstarter_exporters_online{namespace=default}"] == 1
    assert not [name for name in found if name.startswith("jumpstarter_leases{")]
    assert found["jumpstarter_lease_acquisitions_total{result=success}"] == 1
    assert found["jumpstarter_lease_acquisitions_total{result=failure}"] == 0
    assert found["jumpstarter_lease_wait_seconds_count"] == 1
    assert found["jumpstarter_dials_total{code=OK}"] >= 1
    assert found["jumpstarter_authentication_refusals_total"] >= 1
    assert found["jumpstarter_store_write_seconds_count"] > 3
    assert 0 < found["jumpstarter_store_write_seconds_sum"] < 60
    assert found["jumpstarter_store_failed_writes_total"] == 0
    assert found["jumpstarter_journal_lost_entries_total"] == 0
    assert found["process_resident_memory_bytes"] > 10_000_000
    carried = metrics(ports[1])
    assert carried["jumpstarter_router_bytes_total{direction=in}"] > 100
    assert carried["jumpstarter_router_streams{state=waiting}"] == 0
    assert carried["jumpstarter_router_authentication_refusals_total"] == 0
    lab.until(lambda: metrics(ports[1])["jumpstarter_router_held_bytes"] == 0)
    with pytest.raises(urllib.error.HTTPError):
        get(ports[1], "/")


def test_a_certificate_near_its_end_is_said_in_log_probe_and_administration(lab: Lab) -> None:
    chain, key = lab.home / "chain.pem", lab.home / "key.pem"
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=5, hours=1)
    issued = trustme.CA().issue_cert("127.0.0.1", not_after=soon)
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    port = exporters.free_port()
    words = ("--tls-cert", str(chain), "--tls-key", str(key), "--metrics-listen", f"127.0.0.1:{port}")
    controller = lab.start_controller(*words)
    wanted = "the TLS certificate ends in 5 days; replace it and its key until then"
    assert get(port, "/healthz") == get(port, "/readyz") == f"ok\nwarning: {wanted} ({chain})\n"
    lab.until(lambda: wanted in controller.log.read_text())
    done = administer(lab.data, "client", "list")
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: {wanted}\n")


def test_a_lab_outlives_the_certificate_that_its_controller_made(lab: Lab) -> None:
    lab.data.mkdir(mode=0o700)
    ended = own_certificate(lab.data, [], days=-0.5)
    shown = ended.fingerprint()
    pinned = base64.b64encode(ended.pinned().encode()).decode()
    controller = lab.start_controller()
    assert ended.fingerprint() != shown
    lab.until(lambda: "renewed under the same key" in controller.log.read_text())
    ann = lab.client("ann")
    config = yaml.safe_load(ann.read_text())
    assert config["tls"]["ca"] != pinned
    config["tls"]["ca"] = pinned
    ann.write_text(yaml.safe_dump(config))
    command = [exporters.scripts() / "jumpstarter", "lease", "list", "--client", ann]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
