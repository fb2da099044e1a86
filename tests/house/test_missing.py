"""A test that lacks what it needs says so: a skip on a developer's machine, a failure in CI."""

from __future__ import annotations

import pytest

from tests.support.peers import ROOT

TESTS = """
    import pytest

    @pytest.fixture
    def tool():
        pytest.skip("missing: a tool; apt install tool")

    def test_with_a_tool(tool): ...

    def test_itself():
        pytest.skip("missing: another")

    def test_for_root_only():
        pytest.skip("only root can do this")

    def test_for_nobody():
        pytest.skip()
"""


def makeconftest(pytester: pytest.Pytester) -> None:
    """The project's own, which is told where the project is."""
    pytester.makeconftest(
        (ROOT / "conftest.py").read_text().replace("Path(__file__).parent", f"Path({str(ROOT)!r})")
    )


@pytest.mark.parametrize(
    ("ci", "outcomes"),
    [("", {"skipped": 3, "failed": 1}), ("true", {"skipped": 1, "errors": 1, "failed": 2})],
)
def test_what_is_missing_is_skipped_and_a_failure_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, outcomes: dict[str, int]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("TMPDIR", "/tmp")
    makeconftest(pytester)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-rsfE", "-p", "no:jumpstarter")
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*missing: a tool; apt install tool*"])


def test_a_long_tmpdir_is_replaced_and_the_run_says_so(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = pytester.path / ("t" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    makeconftest(pytester)
    pytester.makepyfile(
        "import os, tempfile\ndef test_it():\n    assert os.environ['TMPDIR'] == tempfile.gettempdir()\n"
        "    assert os.path.dirname(tempfile.gettempdir()) == '/tmp'\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:jumpstarter")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["TMPDIR: /tmp; *ttt is too long for sockets in it"])
