"""Copies of the checkout in which tests run against mutants, so that nobody's working tree is ever written to."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tools.mutants.mutations import Mutation

SITE = Path(__file__).parent / "site"
# Without a limit of flow control a mutant takes all memory that there is; this is above what any test takes.
MEMORY_BYTES = 2 << 30
# Above the sum of what the tests may take: reached only by a process that does not end after its tests.
RUN_SECONDS = 600.0
BASELINE_SECONDS = 1200.0
"""Of the tests as they are: for one, and for all of them."""
NO_TESTS = 5


class BaselineError(Exception):
    """The tests do not pass, or do not import what is to be mutated, before anything is mutated."""


@dataclass
class Baseline:
    """What the tests do to the code as it is."""

    durations: dict[str, float]
    tests: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    """By module (relative to the checkout) and line; the empty name stands for all tests."""

    def tests_of(self, module: str, lines: range) -> set[str]:
        """Return the tests that run one of these lines."""
        found: set[str] = set()
        for line in lines:
            found |= self.tests.get((module, line), set())
        return set(self.durations) if "" in found else found & self.durations.keys()


@dataclass(frozen=True)
class Noticed:
    """The first test that fails with a mutant. A hang may also come from a machine that has no time for the test."""

    test: str
    hangs: bool


class Workspace:
    """A temporary folder with one copy of the checkout for each job."""

    def __init__(self, root: Path, folder: Path, tests: list[Path], jobs: int) -> None:
        self._root = root
        self._folder = folder
        self._tests = [str(path.relative_to(root)) for path in tests]
        # A short name, since tests put sockets below it, whose paths have a limit.
        self._home = Path(tempfile.mkdtemp(prefix="m-")).resolve()
        self.jobs = jobs
        self._jobs = [str(number) for number in range(jobs)]
        self._free: queue.SimpleQueue[str] = queue.SimpleQueue()

    def close(self) -> None:
        """End what runs here and remove the folder."""
        for job in self._jobs:
            self._end_processes(job)
        shutil.rmtree(self._home, ignore_errors=True)

    def baseline(self, modules: list[Path]) -> Baseline:
        """Run all tests once, and make the copies. Raises `BaselineError`."""
        ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "node_modules")
        first = self._home / self._jobs[0]
        shutil.copytree(self._root, first, ignore=ignored, symlinks=True)
        lines, durations = self._home / "lines", self._home / "durations"
        lines.touch()
        environment = {
            "MUTANTS_TRACE": str(first / self._folder.relative_to(self._root)),
            "MUTANTS_LINES": str(lines),
            "MUTANTS_DURATIONS": str(durations),
        }
        # The tests' own limit is not for tests that are traced.
        status = self._pytest(
            self._jobs[0], [f"--timeout={BASELINE_SECONDS:.0f}", *self._tests], environment, BASELINE_SECONDS
        )
        if status != 0:
            output = (self._home / f"o{self._jobs[0]}").read_text(errors="replace")
            raise BaselineError(f"{output}\nThe tests must pass before anything is mutated; they do not.")
        found = Baseline(json.loads(durations.read_text(encoding="utf-8")))
        for text in lines.read_text(encoding="utf-8").splitlines():
            test, file, line = text.rsplit("\t", 2)
            found.tests[str(Path(file).relative_to(first)), int(line)].add(test)
        if modules and not found.tests:
            raise BaselineError(f"The tests import nothing of {self._folder} from the copy of this checkout.")
        for (
            path
        ) in modules:  # what was compiled before must not stand for a mutant of the same size and second
            for compiled in (first / path.parent.relative_to(self._root) / "__pycache__").glob(
                f"{path.stem}.*"
            ):
                compiled.unlink()
        for job in self._jobs[1:]:
            shutil.copytree(first, self._home / job, symlinks=True)
        for job in self._jobs:
            self._free.put(job)
        return found

    def noticed_by(self, mutation: Mutation, source: bytes, tests: dict[str, float]) -> Noticed | None:
        """Run `tests` (with their durations) against a mutant; return what fails or hangs, if anything does."""
        job = self._free.get()
        path = self._home / job / mutation.path.relative_to(self._root)
        selected, running = self._home / f"s{job}", self._home / f"r{job}"
        selected.write_text(json.dumps(tests), encoding="utf-8")
        running.write_text("(while tests were imported)", encoding="utf-8")
        environment = {
            "MUTANTS_SELECTED": str(selected),
            "MUTANTS_RUNNING": str(running),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        files = sorted({test.partition("::")[0] for test in tests})
        try:
            path.write_bytes(mutation.apply(source))
            status = self._pytest(job, files, environment)
            return self._verdict(job, status, tests)
        finally:
            with contextlib.suppress(FileNotFoundError):  # after `close`
                path.write_bytes(source)
            self._free.put(job)

    def _verdict(self, job: str, status: int, tests: dict[str, float]) -> Noticed | None:
        if status == NO_TESTS:
            raise RuntimeError(f"pytest found none of {sorted(tests)}")
        if status == 0:
            return None
        hangs = status == -signal.SIGKILL or b"+ Timeout +" in (self._home / f"o{job}").read_bytes()
        running = self._home / f"r{job}"
        return Noticed(running.read_text(encoding="utf-8"), hangs=hangs)

    def _pytest(
        self, job: str, arguments: list[str], environment: dict[str, str], seconds: float = RUN_SECONDS
    ) -> int:
        copy = self._home / job
        temporary = self._home / f"t{job}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        paths = [str(SITE), *self._import_roots(copy)]
        environment = {
            "JUMPSTARTER_TEST_CACHE": str(self._root / ".cache"),
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(temporary),
            "MUTANTS_JOB": str(copy),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-x", f"--rootdir={copy}", "-p", "mutants_plugin"]
        command += ["-p", "no:cacheprovider", "--timeout-method=thread", f"--basetemp={temporary}/b"]
        if importlib.util.find_spec("hypothesis"):
            command.append("--hypothesis-seed=0")
        if importlib.util.find_spec("xdist"):
            command.append("-n0")
        with (self._home / f"o{job}").open("wb") as output:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=copy,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL
            finally:
                self._end_processes(job)
                process.wait()

    def _import_roots(self, copy: Path) -> list[str]:
        """Return the folders of the copy from which modules are imported, as an editable install names ours."""
        roots = [Path(path).resolve() for path in sys.path if path]
        package = self._folder
        while (package / "__init__.py").exists():
            package = package.parent
        inside = [path for path in [package, *roots] if path.is_relative_to(self._root)]
        relative = [path.relative_to(self._root) for path in inside]
        return [
            str(copy / path) for path in dict.fromkeys(relative) if not path.as_posix().startswith(".venv")
        ]

    def _end_processes(self, job: str) -> None:
        """Kill what a run has left, also in other sessions: whatever has its mark in the environment."""
        mark = f"MUTANTS_JOB={self._home / job}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        os.kill(int(folder.name), signal.SIGKILL)
