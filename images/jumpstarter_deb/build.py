"""The steps from a commit to the packages of one release."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jumpstarter_deb import bytecode, compiled, control, elf, lock, roots, staging, wheels
from jumpstarter_deb.recipe import ARCHITECTURES, BUILT, Architecture, Package, Program, Release
from jumpstarter_deb.source import SourceTree

__all__ = ["build", "lock_release"]

STRIP = {"amd64": "x86_64-linux-gnu-strip", "arm64": "aarch64-linux-gnu-strip"}
BINUTILS = {"amd64": "binutils-x86-64-linux-gnu", "arm64": "binutils-aarch64-linux-gnu"}
HELP = """
import sys
sys.path.insert(0, {folder!r})
sys.argv = {argv!r}
from {module} import {function} as main
sys.exit(main())
"""


def lock_release(source: SourceTree, packages: Iterable[Package], release: Release) -> str:
    """Return the text of a new lock, with the versions that pip selects today."""
    extras = tuple(dict.fromkeys(extra for package in packages for extra in package.extras))
    wanted = {}
    for architecture in ARCHITECTURES.values():
        markers = wheels.environment(release, architecture)
        wanted[architecture.machine] = wheels.applying(source.requirements(extras), markers)
    return lock.render(lock.resolve(wanted, release), release)


def build(
    source: SourceTree,
    packages: list[Package],
    release: Release,
    architectures: list[Architecture],
    *,
    output: Path,
    say: Callable[[str], None],
    level: int = 6,
) -> list[Path]:
    """Build packages into the folder `output`, packed by xz at a level from 0 to 9, and return them.

    Raises:
        LockError, BuildRootError, ElfError, SourceError: what it says.
    """
    native = ARCHITECTURES[roots.native_architecture()]
    pins = lock.parse(lock.lock_file(release).read_text())
    with tempfile.TemporaryDirectory(prefix=f"build-{release.number}-", dir=roots.cache()) as name:
        root = roots.unpacked(release, _tools(release), Path(name) / "root")
        (root / "build").mkdir()
        made: list[Path] = []
        for package in packages:
            # The package for this machine is always staged, because its programs print the text of the manual pages.
            job = functools.partial(_stage, source, package, release, pins=pins, root=root)
            staged = {
                item.name: job(item) for item in {native.name: native, **_named(architectures)}.values()
            }
            run = _runner(package, source, release, root, staged[native.name][0])
            written = Path(name) / "texts" / package.name
            staging.documents(
                package,
                source,
                control.release_version(source.version, release),
                chosen=staged[native.name][1],
                run=run,
                root=written,
            )
            with ThreadPoolExecutor(2) as pool:
                finish = functools.partial(
                    _finish, source, package, release, root=root, texts=written, level=level
                )
                made += pool.map(finish, architectures, [staged[item.name] for item in architectures])
            for item in staged:
                shutil.rmtree(root / "build" / f"{package.short}-{item}")
        output.mkdir(parents=True, exist_ok=True)
        done = []
        for path in made:
            done.append(output / path.name)
            shutil.move(path, done[-1])
            say(f"{done[-1]}: {done[-1].stat().st_size / 1e6:.1f} MB")
        return done


def _stage(
    source: SourceTree,
    package: Package,
    release: Release,
    architecture: Architecture,
    *,
    pins: list[lock.Pin],
    root: Path,
) -> tuple[Path, list[wheels.Library]]:
    folder = root / "build" / f"{package.short}-{architecture.name}"
    found = wheels.fetch(pins, release, architecture, roots.cache() / f"wheels-{release.number}")
    markers = wheels.environment(release, architecture)
    chosen = wheels.needed(source.requirements(package.extras), found, markers)
    if "pi" in package.extras:
        for pin in BUILT.get((release.number, architecture.name), ()):
            made = compiled.wheel(pin, release, architecture, roots.cache() / f"wheels-{release.number}")
            chosen.append(wheels.read(made))
    staging.libraries(package, source, chosen, folder)
    staging.programs(package, release, folder)
    staging.shared_files(package, source, folder)
    modules = elf.shared_objects(folder)
    if modules:
        names = [f"/{path.relative_to(root)}" for path in modules]
        roots.enter(root, [STRIP[architecture.name], "--strip-unneeded", *names])
        for path, name in zip(modules, names, strict=True):
            # protobuf loads the C++ library for nothing: a megabyte of memory in each process.
            for library in elf.unused(elf.read(path)):
                roots.enter(root, ["patchelf", "--remove-needed", library, name])
    installed = f"{package.folder}/lib"
    shutil.copyfile(bytecode.__file__, root / "build" / "bytecode.py")
    program = [release.interpreter, "-S", "-X", "no_debug_ranges", "/build/bytecode.py"]
    command = [*program, f"/{folder.relative_to(root)}{installed}", installed, *package.sources]
    roots.enter(root, command, PYTHONHASHSEED="0")
    return folder, chosen


def _runner(
    package: Package, source: SourceTree, release: Release, root: Path, staged: Path
) -> Callable[[Program, tuple[str, ...]], str]:
    """Return a function that runs a staged program in the root, at its installed path."""
    folder = f"/{staged.relative_to(root)}{package.folder}/lib"

    def run(program: Program, words: tuple[str, ...]) -> str:
        known = texts(source.commit, release)
        if (program, words) not in known:
            text = HELP.format(
                folder=folder, argv=[program.name, *words], module=program.module, function=program.function
            )
            environment = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
            known[program, words] = roots.enter(
                root, [release.interpreter, "-ISB", "-c", text], **environment
            )
        return known[program, words]

    return run


@functools.cache
def texts(commit: str, release: Release) -> dict[tuple[Program, tuple[str, ...]], str]:
    """Outputs of programs of a commit, cached because two packages contain the client's programs."""
    del commit, release
    return {}


def _finish(
    source: SourceTree,
    package: Package,
    release: Release,
    architecture: Architecture,
    staged: tuple[Path, list[wheels.Library]],
    *,
    root: Path,
    texts: Path,
    level: int,
) -> Path:
    folder, _chosen = staged
    inside = f"/{folder.relative_to(root)}"
    shutil.copytree(texts, folder, dirs_exist_ok=True)
    modules = elf.shared_objects(folder)
    objects = [elf.read(path) for path in modules]
    if wrong := [
        path for path, item in zip(modules, objects, strict=True) if item.machine != architecture.elf_machine
    ]:
        raise elf.ElfError(f"{wrong[0]} is not for {architecture.name}")
    version = control.release_version(source.version, release)
    system = elf.system_depends(objects, frozenset(path.name for path in modules))
    told = control.fields(
        package, version, release, architecture, system=system, size=control.installed_size(folder)
    )
    control.write(folder, told, control.scripts(package, version))
    staging.freeze(folder, source.epoch)
    name = f"{package.name}_{version}_{architecture.name}.deb"
    # One thread: xz's output depends on whether it has several.
    options = ["--root-owner-group", "-Zxz", f"-z{level}", "--threads-max=1"]
    roots.enter(
        root,
        ["dpkg-deb", *options, "--build", inside, f"/build/{name}"],
        SOURCE_DATE_EPOCH=str(source.epoch),
    )
    return root / "build" / name


def _tools(release: Release) -> list[str]:
    return [f"python{release.python}", "binutils", "patchelf", *(BINUTILS[name] for name in ARCHITECTURES)]


def _named(architectures: list[Architecture]) -> dict[str, Architecture]:
    return {item.name: item for item in architectures}


def complain(text: str) -> None:
    """Print a message on standard error."""
    print(f"deb: {text}", file=sys.stderr, flush=True)
