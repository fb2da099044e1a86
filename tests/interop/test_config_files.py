"""Configurations that we write, read by Jumpstarter 0.9.0's own models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.identity.config_files import ConfigFiles
from jumpstarter_exporter.cli.enrol import filled_in
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.remote.enrolment import Membership

from tests.interop import exporters
from tests.support.peers import Environment

READ_CLIENTS = """
import json
from jumpstarter.config.client import ClientConfigV1Alpha1
from jumpstarter.config.user import UserConfigV1Alpha1
current = UserConfigV1Alpha1.load().config.current_client
listed = ClientConfigV1Alpha1.list()
print(json.dumps({
    "current": current.alias,
    "aliases": [one.alias for one in listed.items],
    "config": json.loads(current.model_dump_json()),
}))
"""


def theirs(upstream: Environment, program: str, home: Path, *words: str) -> dict[str, object]:
    """What a program says that runs with their models and our files."""
    done = subprocess.run(
        [upstream.python, "-c", program, *words],
        env=exporters.clean_environment(home) | {"JMP_CLIENT_CONFIG_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_client_configurations_of_ours_are_theirs(upstream: Environment, tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    ann = Identity(Kind.CLIENT, "default", "ann", "secret")
    files.save("lab", ClientConfig("lab:8082", ann, Trust(ca="QUJD"), refresh_token="again"))
    files.save("other", ClientConfig("b:1", ann, Trust(insecure=True), allow=("a.*",)))
    files.use("other")
    found = theirs(upstream, READ_CLIENTS, tmp_path)
    assert (found["current"], found["aliases"]) == ("other", ["lab", "other"])
    files.use("lab")
    config = theirs(upstream, READ_CLIENTS, tmp_path)["config"]
    assert isinstance(config, dict)
    assert config["metadata"] == {"namespace": "default", "name": "ann"}
    assert config["tls"] == {"ca": "QUJD", "insecure": False}
    assert (config["endpoint"], config["token"], config["refresh_token"]) == ("lab:8082", "secret", "again")


READ_EXPORTER = """
import json, pathlib, sys
from jumpstarter.config.exporter import ExporterConfigV1Alpha1
print(ExporterConfigV1Alpha1.load_path(pathlib.Path(sys.argv[1])).model_dump_json())
"""


def test_an_exporter_that_enrolled_is_theirs_too(upstream: Environment, tmp_path: Path) -> None:
    member = Membership("lab:8082", Identity(Kind.EXPORTER, "default", "one", "secret"), Trust(ca="QUJD"))
    path = tmp_path / "one.yaml"
    power = "{type: jumpstarter_driver_power.driver.MockPower}"
    path.write_text(filled_in(f"# mine\nexport:\n  power: {power}\n", member))
    config = theirs(upstream, READ_EXPORTER, tmp_path, str(path))
    assert config["metadata"] == {"namespace": "default", "name": "one"}
    assert config["tls"] == {"ca": "QUJD", "insecure": False}
    assert (config["endpoint"], config["token"]) == ("lab:8082", "secret")
    assert isinstance(config["export"], dict)
    assert list(config["export"]) == ["power"]
