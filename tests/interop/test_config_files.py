"""Configurations that we write, read by Jumpstarter 0.9.0's own models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from jumpstarter_client.leasing.config_files import ConfigFiles
from jumpstarter_client.leasing.configs import ClientConfig
from jumpstarter_proto.remote import Identity, Kind, Trust

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
    files.save("lab", ClientConfig("lab:8082", ann, Trust(ca="QUJD")), refresh_token="again")
    files.save("other", ClientConfig("b:1", ann, Trust(insecure=True)), allow=["a.*"], unsafe=False)
    files.use("other")
    found = theirs(upstream, READ_CLIENTS, tmp_path)
    assert (found["current"], found["aliases"]) == ("other", ["lab", "other"])
    files.use("lab")
    config = theirs(upstream, READ_CLIENTS, tmp_path)["config"]
    assert isinstance(config, dict)
    assert config["metadata"] == {"namespace": "default", "name": "ann"}
    assert config["tls"] == {"ca": "QUJD", "insecure": False}
    assert (config["endpoint"], config["token"], config["refresh_token"]) == ("lab:8082", "secret", "again")
