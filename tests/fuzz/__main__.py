"""`python -m tests.fuzz [--seconds 600] [--seed N] [TARGET ...]`: each target for so long; 1 if one shows a fault."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys

from tests.fuzz.engine import Finding, fuzz
from tests.fuzz.targets import CORPUS, TARGETS

MOST_KEPT = 12
MAX_KEPT_BYTES = 512


def main() -> int:
    """Each target in its own process, so that its memory is its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--seed", type=int, help="of the changes; another each time unless said")
    parser.add_argument("--keep", action="store_true", help="add what reached new lines to the corpus")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    given = parser.parse_args()
    for name in given.targets:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}; there are {', '.join(TARGETS)}")
    seed = random.randrange(2**32) if given.seed is None else given.seed
    if given.one:
        return _one(given.targets[0], given.seconds, seed, keep=given.keep)
    failed = 0
    for name in given.targets or TARGETS:
        arguments = [
            "--one",
            "--seconds",
            str(given.seconds),
            "--seed",
            str(seed),
            *(["--keep"] if given.keep else []),
        ]
        done = subprocess.run([sys.executable, "-m", "tests.fuzz", *arguments, name], check=False)
        failed |= done.returncode != 0
    return int(failed)


def _one(name: str, seconds: float, seed: int, *, keep: bool) -> int:
    target = TARGETS[name]
    corpus = target.corpus(name)
    result = fuzz(target.run, corpus, seconds=seconds, seed=seed)
    grown = f", memory +{result.grown_kib // 1024} MiB"
    print(
        f"{name}: {result.count} inputs, {len(result.corpus)} in the corpus{grown} (seed {seed})", flush=True
    )
    if keep:
        kept = [data for data in result.corpus[len(corpus) :] if len(data) <= MAX_KEPT_BYTES]
        for data in kept[-MOST_KEPT:]:
            _save(name, Finding(data, ""))
    if result.finding is None:
        return 0
    _save(name, result.finding)
    print(f"{name}: FAULT, kept as {CORPUS / name / result.finding.name}\n{result.finding.what}", flush=True)
    return 1


def _save(name: str, finding: Finding) -> None:
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    (CORPUS / name / finding.name).write_bytes(finding.data)


if __name__ == "__main__":
    sys.exit(main())
