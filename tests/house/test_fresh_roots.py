"""`make fresh` installs what README.md names, so it must find the lines in which README.md does."""

from __future__ import annotations

import re
import subprocess

from tests.support.peers import ROOT

SCRIPT = ROOT / "tools" / "fresh"


def test_the_lines_of_packages_are_found_in_the_readme() -> None:
    script = SCRIPT.read_text()
    kinds = set(re.findall(r"\$\(named_in_readme (\w+)\)", script))
    (function,) = re.findall(r"^named_in_readme\(\) \{\n.*?^\}\n", script, re.MULTILINE | re.DOTALL)
    assert kinds == {"required", "optional"}
    for kind in kinds:
        found = subprocess.run(
            ["bash", "-c", f'{function}\ncheckout={ROOT} named_in_readme "$1"', "names", kind],
            capture_output=True,
            text=True,
            check=True,
        )
        packages = found.stdout.split()
        assert ("python3-venv" if kind == "required" else "mosquitto") in packages, kind
