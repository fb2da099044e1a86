"""Makes the data of a lab of the version before, with that version's own programs.

    python -m tests.previous.old_lab tests/previous/v0.1.0

No test runs it: they use what it wrote, which nothing of this tree could write.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

from tests.interop.lab import Lab
from tests.support import peers
from tests.support.lab import LIMIT

CONFIGURATION = "authentication:\n  internal:\n    tokenLifetime: 876000h\n"
"""Tokens that are still good when the tests run."""
DURATION = "3649d"
"""Of leases that have not ended by then."""
POLICY = """apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: boards}
spec:
  exporterSelector: {matchLabels: {board: rpi4}}
  policies:
    - {priority: 5, from: [{clientSelector: {matchLabels: {team: kernel}}}]}
"""


def main(target: Path) -> None:
    """Write the database, the key of its tokens, and a client's token to that folder."""
    before = peers.previous()
    configuration = target / "controller.yaml"
    target.mkdir(parents=True)
    configuration.write_text(CONFIGURATION)
    with Lab.opened("--config", str(configuration), installed=before) as lab:
        (lab.home / "policy.yaml").write_text(POLICY)
        daemon = lab.exporter("rpi4", export="export:\n  power: {type: power.MockPower}\n", installed=before)
        lab.admin("client", "create", "ann", "--label", "team=kernel", "--save", lab.home / "ann.yaml")
        lab.admin("policy", "apply", lab.home / "policy.yaml")
        lab.admin("client", "create", "bob", "--save", lab.home / "bob.yaml")
        lab.admin("client", "disable", "bob")
        lab.admin("pair", "client", "late", "--valid", "24h")
        ann = lab.person("user", before)
        shutil.copyfile(lab.home / "ann.yaml", ann.file)

        def lease(*words: str) -> str:
            return ann.ours("lease", "create", "-l", "board=rpi4", *words, "-o", "name").stdout.strip()

        ann.ours("lease", "release", lease("--duration", "1h"))
        lab.until(lambda: lab.status("rpi4") == "AVAILABLE")
        lease("--duration", DURATION)
        lease("--duration", DURATION, "--no-wait")
        daemon.process.kill()  # it says no goodbye
        daemon.process.wait(LIMIT)
        lab.controller.process.terminate()
        lab.controller.process.wait(LIMIT)
        for name in ("lab.sqlite", "tokens.key"):
            shutil.copyfile(lab.data / name, target / name)
        token = yaml.safe_load((lab.home / "ann.yaml").read_text())["token"]
        (target / "ann.token").write_text(f"{token}\n")
    configuration.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
