"""The row about installed size: the packages of each side in an environment that holds nothing else."""

from __future__ import annotations

from tests.bench.result import Result
from tests.bench.upstream import PEER, Bench
from tests.support.peers import Environment

# Neither environment is given pip or setuptools; setuptools may come as somebody's dependency all the same.
TOOLS = ("pip", "setuptools")
HOW = "bytes of all files in site-packages, compiled ones included; pip and setuptools count on neither side"


def size(bench: Bench, repeats: int) -> Result:
    theirs, ours = _bytes(bench.theirs), _bytes(bench.ours)
    what = "installed size, base + [exporter]"
    return Result(
        "size", PEER, what, "MB", theirs, ours, 0.20, True, 1, note=HOW, detail=_largest(bench.ours)
    )


def packages(bench: Bench, repeats: int) -> Result:
    theirs, ours = _distributions(bench.theirs), _distributions(bench.ours)
    what = "installed packages, base + [exporter]"
    return Result(
        "packages", PEER, what, "packages", len(theirs), len(ours), 0.30, True, 1, detail={"ours": ours}
    )


def _bytes(installed: Environment) -> float:
    return sum(_sizes(installed).values())


def _largest(installed: Environment) -> dict[str, float]:
    sizes = _sizes(installed)
    return {name: round(sizes[name], 2) for name in sorted(sizes, key=lambda name: -sizes[name])[:12]}


def _sizes(installed: Environment) -> dict[str, float]:
    """Megabytes of each entry in site-packages."""
    return {
        entry.name: sum(path.lstat().st_size for path in [entry, *entry.rglob("*")] if not path.is_dir())
        / 1e6
        for entry in installed.site_packages.iterdir()
        if not _is_tool(entry.name)
    }


def _distributions(installed: Environment) -> list[str]:
    names = (path.name.removesuffix(".dist-info") for path in installed.site_packages.glob("*.dist-info"))
    return sorted(name for name in names if not _is_tool(name))


def _is_tool(name: str) -> bool:
    return name.partition("-")[0] in TOOLS
