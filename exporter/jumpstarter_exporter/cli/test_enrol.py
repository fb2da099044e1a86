"""What `jumpstarter-exporter enrol` says of a code before it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_exporter.cli.enrol import VARIABLE, enrol_exporter
from jumpstarter_exporter.config import ConfigError
from jumpstarter_exporter.config.config_files import ConfigNotFoundError


@pytest.mark.parametrize(("config", "is_hinted"), [(None, True), ("three", False)])
def test_of_several_configurations_a_code_for_a_host_needs_none_and_how_that_begins_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None, is_hinted: bool
) -> None:
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv(VARIABLE, "H0ST-AAAA-BBBB-CCCC")
    (tmp_path / "exporters").mkdir()
    for name in ("one", "two"):
        (tmp_path / "exporters" / f"{name}.yaml").write_text("export: {}")
    with pytest.raises(ConfigNotFoundError) as caught:
        enrol_exporter("lab:8082", fingerprint="", config=config, save=None, replace=False, code_file=None)
    assert ("would begin with HOST" in str(caught.value)) is is_hinted


@pytest.mark.parametrize("option", ["config", "save"])
def test_a_link_that_leads_to_itself_is_named_before_the_code_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv(VARIABLE, "ABCD-AAAA-BBBB-CCCC")
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    config, save = (str(loop), None) if option == "config" else (None, loop)
    with pytest.raises(ConfigError, match=r"loop\.yaml: this link leads to itself; remove it"):
        enrol_exporter("lab:8082", fingerprint="", config=config, save=save, replace=False, code_file=None)
