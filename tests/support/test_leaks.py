"""A test that leaves something behind fails, with what it left. Things that a wider fixture keeps are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

LEAKS = {
    "thread": "threading.Thread(target=threading.Event().wait, name='forgotten', daemon=True).start()",
    "process": "kept.append(subprocess.Popen(['sleep', '1000']))",
    "socket": "kept.append(socket.socket())",
    "temporary file": "tempfile.mkstemp(prefix='forgotten-')",
    "log level": "logging.getLogger('jumpstarter_exporter').setLevel(logging.INFO)",
    "an orphan": "subprocess.run('sleep 1000 & :', shell=True, check=True)",
}
HEAD = "import logging, socket, subprocess, tempfile, threading, os\nimport pytest\nkept = []\n"
PLUGINS = ("-p", "tests.support.programs", "-p", "tests.support.leaks", "-p", "no:cacheprovider")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    # The moment that it has is not what is tested here.
    pytester.makeconftest("from tests.support import leaks\nleaks.MOMENT_SECONDS = 0.1\n")

    def run(text: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + text)
        return pytester.runpytest_subprocess(*PLUGINS)

    return run


@pytest.mark.parametrize("kind", LEAKS)
def test_what_is_left_behind_is_named(run, kind: str) -> None:  # type: ignore[no-untyped-def]
    done = run(f"def test_one():\n    {LEAKS[kind]}\ndef test_other():\n    pass\n")
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*ERROR at teardown of test_one*", "this test*left behind:"])
    done.stdout.fnmatch_lines([f"  {'process' if kind == 'an orphan' else kind} *"])


def test_what_fixtures_keep_or_clear_away_is_not_a_fault(run) -> None:  # type: ignore[no-untyped-def]
    done = run(
        "@pytest.fixture(scope='module')\n"
        "def shared():\n    with socket.socket() as one:\n        yield one\n"
        "@pytest.fixture\n"
        "def own():\n    with socket.socket() as one, subprocess.Popen(['sleep', '1000']) as process:\n"
        "        yield one\n        process.kill()\n"
        "def test_one(own, shared): pass\n"
        "def test_two(shared): tempfile.TemporaryFile().close()\n"
    )
    done.assert_outcomes(passed=2)


def test_an_orphan_that_has_ended_is_not_a_fault(run) -> None:  # type: ignore[no-untyped-def]
    run("def test_one():\n    subprocess.run('true & :', shell=True, check=True)\n").assert_outcomes(passed=1)


def test_an_orphan_with_the_number_of_a_program_that_was_waited_for_is_not_a_fault(run) -> None:  # type: ignore[no-untyped-def]
    run(
        "from tests.support import programs\n"
        "def test_one():\n"
        "    program = subprocess.Popen(['true'])\n"
        "    program.wait()\n"
        "    kept.append(program)\n"
        "    orphan = int(subprocess.run('sleep 0.01 & echo $!', shell=True, stdout=-1).stdout)\n"
        "    programs.started[orphan] = program\n"
    ).assert_outcomes(passed=1)


def test_what_a_shared_fixture_leaves_is_found_at_its_end(run) -> None:  # type: ignore[no-untyped-def]
    done = run(
        "@pytest.fixture(scope='module')\n"
        "def shared():\n    return []\n"
        "def test_one(shared): shared.append(socket.socket())\n"
        "def test_two(shared): kept.extend(shared)\n"
    )
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*ERROR at teardown of test_two*", "  socket *"])
