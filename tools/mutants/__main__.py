"""Mutate a folder's modules and print what no test notices.

Exit code: 0 if every mutant is noticed or has a written reason, 1 if not, 2 if the tests do not pass as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tools.mutants import accepted, mutations
from tools.mutants.mutations import Mutation
from tools.mutants.workspace import Baseline, BaselineError, Workspace

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("_pb2.py", "_grpc.py")


def main(arguments: list[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    options = _parse(arguments)
    root = options.root.resolve()
    target = (root / options.folder).resolve()
    modules = product_modules(target)
    if not target.is_relative_to(root) or not modules:
        print(f"{options.folder}: there is no module to mutate. Name a folder of {root}.", file=sys.stderr)
        return 2
    sources = {path: path.read_bytes() for path in modules}
    found = [mutation for path in modules for mutation in mutations.find(path, sources[path])]
    if options.list:
        for mutation in found:
            print(describe(root, mutation))
        print(f"{len(found)} mutants")
        return 0
    folder = target if target.is_dir() else target.parent
    tests = [folder, *((root / path).resolve() for path in options.tests)]
    try:
        reasons = accepted.load(root)
        run = _Run(root, sources, found, reasons, is_verbose=options.verbose)
        return run.run(Workspace(root, folder, tests, options.jobs))
    except (accepted.AcceptedError, BaselineError) as error:
        print(error, file=sys.stderr)
        return 2


def product_modules(target: Path) -> list[Path]:
    """Return the modules to mutate: no tests, nothing generated."""
    paths = [target] if target.is_file() else sorted(target.rglob("*.py"))
    return [
        path
        for path in paths
        if not path.name.startswith("test_")
        and path.name != "conftest.py"
        and not path.name.endswith(GENERATED)
    ]


def describe(root: Path, mutation: Mutation) -> str:
    """Return the one line that names a mutation."""
    return f"{mutation.path.relative_to(root)}:{mutation.line}, {mutation.function}, {mutation.what}"


class _Run:
    """One run over a list of mutations: its survivors, its progress and its summary."""

    def __init__(
        self,
        root: Path,
        sources: dict[Path, bytes],
        found: list[Mutation],
        reasons: list[accepted.Accepted],
        *,
        is_verbose: bool,
    ) -> None:
        self._root = root
        self._sources = sources
        self._found = found
        self._reasons = reasons
        self._is_verbose = is_verbose
        self._survivors: list[Mutation] = []
        self._unexplained = 0
        self._hangs = 0
        self._done = 0
        self._started = time.monotonic()

    def run(self, workspace: Workspace) -> int:
        """Return the exit code. The workspace is closed in every case."""
        try:
            self._progress("the tests as they are")
            baseline = workspace.baseline(list(self._sources))
            took = time.monotonic() - self._started
            print(
                f"{len(self._found)} mutants; {len(baseline.durations)} tests pass as they are, in {took:.0f} s"
            )
            self._try_all(workspace, baseline)
        finally:
            workspace.close()
        return self._summary()

    def _try_all(self, workspace: Workspace, baseline: Baseline) -> None:
        began = time.monotonic()
        left = []
        for mutation in self._found:
            module = str(mutation.path.relative_to(self._root))
            names = baseline.tests_of(module, mutation.lines)
            if names:
                left.append((mutation, {name: baseline.durations[name] for name in names}))
            else:
                self._survived(mutation, "no test runs this line")
        total = len(left)
        with ThreadPoolExecutor(workspace.jobs) as pool:
            tries = {
                pool.submit(workspace.noticed_by, mutation, self._sources[mutation.path], tests): mutation
                for mutation, tests in left
            }
            try:
                for number, attempt in enumerate(as_completed(tries), 1):
                    mutation = tries[attempt]
                    noticed = attempt.result()
                    self._hangs += noticed is not None and noticed.hangs
                    if noticed is None:
                        self._survived(mutation, f"{len(dict(left)[mutation])} tests pass")
                    elif self._is_verbose:
                        how = "a hang of " if noticed.hangs else ""
                        print(f"noticed: {describe(self._root, mutation)}\n    by {how}{noticed.test}")
                    rest = (time.monotonic() - began) / number * (total - number)
                    if sys.stderr.isatty() or number % 20 == 0:
                        self._progress(
                            f"{number} of {total}, {len(self._survivors)} survived, {rest:.0f} s left"
                        )
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                workspace.close()  # ends the runs that the pool waits for
                raise

    def _survived(self, mutation: Mutation, because: str) -> None:
        self._survivors.append(mutation)
        reason = next((one.why for one in self._reasons if one.matches(self._root, mutation)), None)
        if reason is None:
            self._unexplained += 1
        verdict = f"SURVIVED ({because})" if reason is None else f"accepted ({reason})"
        print(f"{verdict}: {describe(self._root, mutation)}", flush=True)

    def _progress(self, text: str) -> None:
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"{text:70}", end=end, file=sys.stderr, flush=True)

    def _summary(self) -> int:
        names = {str(path.relative_to(self._root)) for path in self._sources}
        outdated = accepted.outdated(self._reasons, self._root, names, self._found, self._survivors)
        for sentence in outdated:
            print(sentence)
        explained = len(self._survivors) - self._unexplained
        noticed = len(self._found) - len(self._survivors)
        took = time.monotonic() - self._started
        print(
            f"{len(self._found)} mutants: {noticed} noticed ({self._hangs} by a hang), {self._unexplained} survived, "
            f"{explained} accepted; {took:.0f} s"
        )
        return 1 if self._unexplained or outdated else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("folder", type=Path, help="a folder, or one module, whose folder's tests then run")
    parser.add_argument(
        "--tests", type=Path, action="append", default=[], help="more tests than the folder's own"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side (default: cores)"
    )
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--verbose", action="store_true", help="name the test that notices each mutant")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
