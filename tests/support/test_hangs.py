"""A test that cannot be interrupted fails, its stacks are shown, and the tests after it are run all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

DEAF = """
def deaf():
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass
"""
HANGS = {
    "in its body": "@limited\ndef test_it(): deaf()",
    "in its set-up": "@pytest.fixture\ndef given(): deaf()\n@limited\ndef test_it(given): pass",
    "after it failed": (
        "@pytest.fixture\ndef given():\n    yield\n    deaf()\n@limited\ndef test_it(given): raise ValueError"
    ),
}


@pytest.mark.parametrize("where", HANGS)
def test_what_hangs_ends_and_the_rest_is_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    pytester.makeconftest(
        "from tests.support import hangs\nhangs.GRACE_SECONDS = 0.2\npytest_plugins = ['tests.support.hangs']\n"
    )
    # Of what does not hang, nothing is limited: a busy machine may take its time.
    limited = "limited = pytest.mark.timeout(1)"
    pytester.makepyfile(
        f"import time\nimport pytest\n{limited}\n{DEAF}\n{HANGS[where]}\ndef test_next(): pass\n"
    )
    done = pytester.runpytest_subprocess("-n1", "-p", "no:cacheprovider")
    counts = done.parseoutcomes()
    assert (counts["passed"], counts["failed"]) == (1, 2 if where == "after it failed" else 1)
    done.stdout.fnmatch_lines(["*worker 'gw0' crashed while running*test_it*"])
    assert " in deaf" in done.stderr.str()  # the stack


ENDS = {
    "a thread that does not end": (
        "def test_it(): threading.Thread(target=deaf).start()\ndef test_next(): pass",
        True,
    ),
    "a neighbour that works on": (
        "@pytest.mark.timeout(60)\ndef test_it(): time.sleep(2)\ndef test_next(): pass",
        False,
    ),
}


@pytest.mark.parametrize("beside", ENDS)
def test_a_worker_has_a_limit_when_it_ends_and_none_when_others_work_on(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, beside: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    pytester.makeconftest(
        "from tests.support import hangs\nhangs.GRACE_SECONDS = 0.2\npytest_plugins = ['tests.support.hangs']\n"
    )
    tests, hangs = ENDS[beside]
    pytester.makepyfile(f"import threading\nimport time\nimport pytest\n{DEAF}\n{tests}\n")
    done = pytester.runpytest_subprocess("-n2", "-p", "no:cacheprovider")
    assert done.parseoutcomes()["passed"] == 2
    assert ("Timeout" in done.stderr.str()) == hangs
