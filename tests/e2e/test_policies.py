"""Access policies of a lab: applied, listed, deleted, and their effect on waiting clients."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from jumpstarter_controller.cli.policy_documents import read_policies
from jumpstarter_controller.lab import Policy, Rule
from jumpstarter_controller.store import Change, Half, SqliteStore

from tests.interop import exporters
from tests.support.administration import administer
from tests.support.lab import Lab
from tests.support.peers import ROOT

POLICY = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: ci}
spec:
  exporterSelector: {matchLabels: {board: rpi4}}
  policies:
    - priority: 5
      from: [{clientSelector: {matchLabels: {team: ci}}}]
      maximumDuration: 1h
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def jumpstarter(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [exporters.scripts() / "jumpstarter", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_policies_decide_at_once(lab: Lab) -> None:
    lab.start_controller()
    file = lab.home / "policies.yaml"
    file.write_text(POLICY)
    ann, ci = lab.client("ann"), lab.client("robot", "--label", "team=ci")
    # Nobody has registered, so both wait.
    lab.admin("exporter", "create", "one", "--label", "board=rpi4", "--save", lab.home / "one.yaml")
    for client, name in ((ann, "l-ann"), (ci, "l-ci")):
        words = ("lease", "create", "-l", "board=rpi4", "--client", client, "--lease-id", name, "--no-wait")
        made = jumpstarter(*words)
        assert made.returncode == 0, made.stderr
    assert lab.admin("policy", "apply", file) == "policy default/ci created\n"

    shown = jumpstarter("lease", "list", "--client", ann, "-A", "--all", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    assert "no access policy lets client ann have one" in shown.stdout
    states = {one["name"]: one["state"] for one in json.loads(shown.stdout)["leases"]}
    assert states == {"l-ann": "unsatisfiable", "l-ci": "waiting"}
    assert lab.admin("policy", "apply", file) == "policy default/ci unchanged\n"
    again = subprocess.run(
        [exporters.scripts() / "jumpstarter-controller", "admin", "policy", "apply", "-", "--data", lab.data],
        input=POLICY.replace("1h", "2h") + "---\n" + POLICY.replace("name: ci", "name: rest"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.stdout == "policy default/ci changed\npolicy default/rest created\n", again.stderr
    file.write_text(lab.admin("policy", "list", "-o", "yaml"))
    assert lab.admin("policy", "apply", file).count("unchanged") == 2
    assert lab.admin("policy", "list", "-o", "name") == "ci\nrest\n"
    assert "team=ci  priority 5  at most 7200 s" in lab.admin("policy", "list")
    listed = json.loads(lab.admin("policy", "list", "-o", "json"))["policies"]
    assert listed[0]["spec"]["policies"][0]["maximumDuration"] == "7200s"
    assert "no policy any more" not in lab.admin("policy", "delete", "rest")
    assert "every client may lease every exporter" in lab.admin("policy", "delete", "ci")
    assert "there is no policy default/ci" in lab.admin("policy", "delete", "ci", fails=True)
    file.write_text(POLICY.replace("priority", "prio"))
    said = lab.admin("policy", "apply", file, fails=True)
    assert f"{file}:7:7: spec.policies[0].prio" in said
    assert said.count("\n") == 1


def test_the_documented_policy_is_one() -> None:
    text = (ROOT / "docs" / "controller.md").read_text()
    found = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (block,) = [one for one in found if "kind: ExporterAccessPolicy" in one]
    (policy,) = read_policies(Path("docs"), block, "default")
    assert (policy.exporters, len(policy.rules)) == ("board=rpi4", 2)


def test_policies_of_another_program_that_cannot_be_read_are_named(lab: Lab) -> None:
    lab.start_controller()
    file = lab.home / "policies.yaml"
    file.write_text(POLICY)
    lab.admin("policy", "apply", file)
    broken = [
        Policy(namespace="default", name="boards", uid="1", exporters="board in ("),
        Policy(namespace="default", name="who", uid="2", rules=(Rule(("team=\x1b[2J",)),)),
    ]
    with closing(SqliteStore(lab.data / "lab.sqlite")) as store:
        store.commit([Change((Policy, one.key), Half.SPEC, one, None) for one in broken])
    log = lab.controller.log
    lab.until(lambda: log.read_text().count("policy has a selector that cannot be read") == 2)
    for output in ("table", "name", "yaml", "json"):
        done = administer(lab.data, "policy", "list", "-o", output)
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        assert ["policy default/boards has a" in lines[0], "policy default/who has a" in lines[1]] == [
            True
        ] * 2
        assert len(lines) == 2
        assert all("apply the policy again" in line for line in lines)
        assert "\x1b" not in done.stdout + done.stderr
        assert "ci" in done.stdout
    (document,) = json.loads(administer(lab.data, "policy", "list", "-o", "json").stdout)["policies"]
    assert document["metadata"]["name"] == "ci"
    file.write_text(
        "---\n".join(POLICY.replace("{name: ci}", f"{{name: {name}}}") for name in ("boards", "who"))
    )
    lab.admin("policy", "apply", file)
    assert administer(lab.data, "policy", "list").returncode == 0
