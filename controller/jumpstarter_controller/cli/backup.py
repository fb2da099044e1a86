"""What `admin backup`, `restore`, `export` and `import` do, and say."""

from __future__ import annotations

import stat
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import trio
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_controller.backups import restore, write_backup
from jumpstarter_controller.backups.kubernetes import MoveReport, export_lab, import_lab
from jumpstarter_controller.process.data_folder import DataFolder, KubernetesLab, default_folder

__all__ = ["backup", "bring_back", "export", "import_"]

_WORDS = {
    "client": "clients",
    "host": "hosts",
    "exporter": "exporters",
    "policy": "policies",
    "lease": "leases",
}
"""The kinds of records that are counted in messages."""


def backup(file: Path, *, overwrite: bool, data: Path | None) -> int:
    """Make a backup, and say what is in it."""
    contents = write_backup(DataFolder(data or default_folder()), file, overwrite=overwrite)
    print_line(f"{file}: {_numbers(contents.about.counts)}, and the lab's keys; {_size(contents.size)}")
    print_line("It is secret: its keys give access to everything in the lab.")
    _warn_if_open(file)
    return 0


def bring_back(file: Path, *, exactly: bool, data: Path | None) -> int:
    """Restore a backup, and say what is different from it."""
    folder = DataFolder(data or default_folder())
    done = restore(folder, file, exactly=exactly)
    _warn_if_open(file)
    about = done.contents.about
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.made))
    print_line(f"{folder.path}: as in the backup of {made}: {_numbers(about.counts)}")
    for sentence in done.sentences:
        print_line(f"- {sentence}")
    if done.kept is not None:
        print_line(
            f"What was there before is in {done.kept}, a separate data folder; delete it when it is not needed."
        )
    print_line(
        f"Start the controller as it was started before; it is reached at {done.contents.addresses.endpoint}."
    )
    return 0


def export(namespace: str, kubeconfig: Path | None, *, overwrite: bool, data: Path | None) -> int:
    """Move the lab to Kubernetes, and say what was done."""
    folder = DataFolder(data or default_folder())
    target = KubernetesLab(namespace, _absolute(kubeconfig))
    done = trio.run(partial(export_lab, folder, target, overwrite=overwrite))
    there = "is already" if done.was_done else "is now"
    print_line(
        f"The lab {there} in the namespace {done.namespace}: {_numbers(done.counts)}, and the lab's keys."
    )
    _say_rest(done)
    print_line(
        f"Start a controller with --store kubernetes --namespace {done.namespace}, reached at {done.endpoint} as "
        "before: clients, exporters and hosts go on with the tokens that they have."
    )
    return 0


def import_(namespace: str, kubeconfig: Path | None, *, overwrite: bool, data: Path | None) -> int:
    """Move the lab from Kubernetes to the folder, and say what was done."""
    folder = DataFolder(data or default_folder())
    source = KubernetesLab(namespace, _absolute(kubeconfig)) if namespace or kubeconfig is not None else None
    done = trio.run(partial(import_lab, folder, source, overwrite=overwrite))
    there = "is already" if done.was_done else "is now"
    print_line(f"The lab {there} in {folder.path}: {_numbers(done.counts)}, and the lab's keys.")
    _say_rest(done)
    where = (
        f"reached at {done.endpoint} as before"
        if done.endpoint
        else "reached at the same --endpoint as before"
    )
    print_line(
        f"Start a controller on it without --store, {where}: clients, exporters and hosts go on with the tokens that "
        "they have."
    )
    return 0


def _say_rest(done: MoveReport) -> None:
    for sentence in done.sentences:
        print_line(f"- {sentence}")
    if done.kept is not None:
        print_line(
            f"What was there before is in {done.kept}, a separate data folder; delete it when it is not needed."
        )


def _absolute(kubeconfig: Path | None) -> str:
    return "" if kubeconfig is None else str(kubeconfig.absolute())


def _warn_if_open(file: Path) -> None:
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        print_error_line(
            f"warning: others can read {file}, in which the lab's keys are; run: chmod 600 {file}"
        )


def _numbers(counts: Mapping[str, int]) -> str:
    words = [
        f"{number} {kind if number == 1 else plural}"
        for kind, plural in _WORDS.items()
        if (number := counts.get(kind, 0))
    ]
    return ", ".join(words) or "no clients, no exporters"


def _size(size: int) -> str:
    return f"{size / 1024:.0f} KiB" if size < 10 * 1024 * 1024 else f"{size / 1024 / 1024:.0f} MiB"
