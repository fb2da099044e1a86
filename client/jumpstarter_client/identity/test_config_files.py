"""Configurations by alias, and the current one."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jumpstarter_proto.private_files import PrivateFileError
from jumpstarter_proto.remote import Identity, Kind, Trust

from jumpstarter_client.identity.client_config import ClientConfig, ClientConfigError, load
from jumpstarter_client.identity.config_files import ConfigFiles, require_writable

ANN = ClientConfig(
    "lab:8082", Identity(Kind.CLIENT, "default", "ann", "secret"), Trust(ca="QUJD"), unsafe=True
)


def test_what_is_saved_is_loaded_and_the_first_is_the_current_one(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path / "home")
    environment = {"JMP_CLIENT_CONFIG_HOME": str(tmp_path / "home")}
    assert (files.aliases(), files.current()) == ([], None)
    path = files.save("lab", ANN)
    files.save("other", ClientConfig("b:1", ANN.identity, Trust(insecure=True)))
    assert load(None, environment) == ANN
    assert load("other", environment).trust == Trust(insecure=True)
    assert files.aliases() == ["lab", "other"]
    files.use("other")
    assert (files.current(), load(None, environment).endpoint) == ("other", "b:1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home" / "config.yaml").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(one.name for one in path.parent.iterdir()) == ["lab.yaml", "other.yaml"]


def test_the_current_one_that_is_deleted_is_current_no_more(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    files.save("lab", ANN)
    files.save("other", ANN)
    files.delete("lab")
    assert (files.aliases(), files.current()) == (["other"], None)
    with pytest.raises(ClientConfigError, match="no client configuration"):
        load(None, {"JMP_CLIENT_CONFIG_HOME": str(tmp_path)})
    # The next to be saved stands in for it.
    files.save("other", ANN)
    assert files.current() == "other"


def test_other_settings_stay(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("config: {theirs: 1}\nmore: [2]\n")
    ConfigFiles(tmp_path).save("lab", ANN)
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert settings["config"] == {"theirs": 1, "current-client": "lab"}
    assert settings["more"] == [2]


def test_an_alias_that_somebody_else_has_is_left_alone(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    elsewhere = ClientConfig("lab.example.org:1", ANN.identity, ANN.trust)
    dotted = ClientConfig("lab:1", Identity(Kind.CLIENT, "default", "ann.lee", "x"), ANN.trust)
    assert files.free_alias(ANN) == "ann"
    files.save("ann", ANN)
    assert files.free_alias(ANN) == "ann"
    assert files.free_alias(elsewhere) == "ann-lab-example-org"
    files.save("ann-lab-example-org", ANN)
    assert files.free_alias(elsewhere) == "ann-lab-example-org-2"
    assert files.free_alias(dotted) == "ann-lee"
    (tmp_path / "clients" / "ann.yaml").write_text("something else")
    assert files.free_alias(ANN) == "ann-lab"


@pytest.mark.parametrize("alias", ["", "../lab", "a/b", "a.b", "-x", "a\nb"])
def test_what_is_not_an_alias(tmp_path: Path, alias: str) -> None:
    files = ConfigFiles(tmp_path)
    for refused in (lambda: files.save(alias, ANN), lambda: files.use(alias), lambda: files.delete(alias)):
        with pytest.raises(ClientConfigError, match="is not a valid configuration name"):
            refused()
    assert list(tmp_path.iterdir()) == []


def test_an_alias_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    with pytest.raises(ClientConfigError, match="log in first"):
        files.use("lab")
    files.save("lab", ANN)
    with pytest.raises(ClientConfigError, match="there is lab"):
        files.delete("lap")


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PrivateFileError, match=r"cannot be made: .*JMP_CLIENT_CONFIG_HOME"):
        ConfigFiles(tmp_path / "file").save("lab", ANN)


KEPT = """# of the lab in Oslo
apiVersion: jumpstarter.dev/v1alpha1
kind: ClientConfig
metadata: {namespace: default, name: ann}
endpoint: lab.example.org:443
tls:
  ca: b2xk  # until June
  insecure: false
token: old
refresh_token: older
grpcOptions:
  grpc.keepalive_time_ms: 20000  # the firewall forgets
drivers:
  allow:
    - jumpstarter_driver_*  # all of them
    - my_drivers.*
  unsafe: false
leases:
  acquisition_timeout: 3600  # the queue is long
"""


def test_a_new_login_changes_who_somebody_is_and_nothing_else_in_their_file(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    path = files.save("lab", ANN)
    path.write_text(KEPT)
    files.save("lab", ANN, keeps_drivers=True)
    text = path.read_text()
    for line in KEPT.splitlines():
        if "#" in line and "ca:" not in line:
            assert line in text
    assert "# until June" in text
    there = load(str(path), {})
    assert (there.identity, there.trust, there.refresh_token) == (ANN.identity, ANN.trust, "")
    assert there.allow == ("jumpstarter_driver_*", "my_drivers.*")
    assert there.acquisition_timeout == 3600


def test_drivers_that_are_allowed_anew_replace_those_in_the_file(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    path = files.save("lab", ANN)
    path.write_text(KEPT)
    files.save("lab", replace(ANN, allow=("a.*", "b"), unsafe=True))
    there = load(str(path), {})
    assert (there.allow, there.unsafe, there.acquisition_timeout) == (("a.*", "b"), True, 3600)
    assert "# the queue is long" in path.read_text()


def test_a_file_that_is_not_a_configuration_is_replaced(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    path = files.save("lab", ANN)
    path.write_text("[")
    files.save("lab", ANN)
    assert load(str(path), {}).identity == ANN.identity


def test_a_place_where_no_file_can_be_made_is_found_before_there_is_one(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "ann.yaml")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(PrivateFileError, match=r"no file can be made in /proc: .*JMP_CLIENT_CONFIG_HOME"):
        require_writable(Path("/proc/ann.yaml"))
