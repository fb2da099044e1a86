"""Moves a lab from the file in its folder to the objects of a Kubernetes namespace, and back.

Names, uids and keys are kept, so all tokens stay valid. The namespace has the name of the lab. Nothing is deleted at
the source: the file is kept in another folder, the objects stay and are drained. After an interrupted move, the lab is
still at the source; running the command again continues the move.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.private_files import read_private, sync_folder, write_private
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown
from msgspec.structs import replace

from jumpstarter_controller.backups.archive import (
    SECRETS,
    BackupError,
    BackupUsageError,
    explained,
    load,
    remove,
    remove_sides,
)
from jumpstarter_controller.backups.moves import (
    MOVING,
    MovePlan,
    is_same,
    namespaces_of,
    plan_of,
    records_of,
    request_of,
)
from jumpstarter_controller.backups.restore import OTHER_PLACE, check_alone, give, keep_data
from jumpstarter_controller.lab import Drain, LabState, Record
from jumpstarter_controller.process.data_folder import DataError, DataFolder, KubernetesLab
from jumpstarter_controller.replicas import ANNOUNCE_SECONDS, Leadership, ReplicaRecords, SharedSecret
from jumpstarter_controller.replicas.open_store import Shared, open_kubernetes
from jumpstarter_controller.store import (
    Change,
    Conflict,
    Half,
    Snapshot,
    SqliteStore,
    Store,
    StoreError,
    Unknown,
)
from jumpstarter_controller.store.contract import key_of
from jumpstarter_controller.store.whole import fill

if TYPE_CHECKING:
    from jumpstarter_controller.store.kubernetes import KubernetesStore

__all__ = ["MoveReport", "export_lab", "import_lab"]

LEAD_SECONDS = 20.0
"""A killed controller stays leader for some seconds."""
LOOK_SECONDS = 2.0
CHANGES_PER_WRITE = 50
"""After each such number of changes, the lock is checked."""
MAX_NAMED_RECORDS = 8
STAGE = ".move-"
SHARED_FILES = (*SECRETS, "tls.crt")
MOVED = "the lab was moved to a file; its controller is elsewhere"

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class MoveReport:
    """The result of a move."""

    namespace: str
    counts: Mapping[str, int]
    """Records by kind."""
    endpoint: str
    """The controller's endpoint; empty: unknown."""
    kept: Path | None = None
    """Where the earlier data is kept."""
    was_done: bool = False
    """Whether the lab was already there."""
    sentences: tuple[str, ...] = ()
    """Notes for the user."""


async def export_lab(folder: DataFolder, target: KubernetesLab, *, overwrite: bool = False) -> MoveReport:
    """Move the lab of a folder to a namespace. With `overwrite` what else is there goes.

    Raises:
        BackupError: it cannot be; says why. The lab is in its folder as before.
        DataError, StoreError, PrivateFileError: the same.
    """
    folder.check_access()
    with folder.locked() as alone, collapsed():
        _check_stopped(folder, is_stopped=alone)
        folder.check_whole()
        addresses = folder.addresses()
        if not folder.database.exists() and addresses.kubernetes is None:
            raise DataError(f"there is no {folder.database.name} in {folder.path}; restore a backup first")
        if not folder.database.exists():
            return await _exported_before(folder, target)
        check_alone(folder.database)
        lab = await _in_thread(partial(load, folder.database))
        async with _opened(target, folder) as (store, shared, namespace):
            _check_namespace(lab, namespace)
            request = request_of(read_private(folder.signing_key))
            snapshot = await _in_thread(store.snapshot)
            plan = plan_of(lab, snapshot, request)
            files = _files(folder)
            secret = await _in_thread(shared.secret.read)
            _check_target(namespace, plan, _differing(secret, files), shared.secret.NAME, overwrite=overwrite)
            own_drain = lab.get(Drain, Drain.KEY)
            was_drained = await _drain(store, own_drain or MOVING, request)
            await _share(shared.secret, secret, files)
            await _write(store, plan, namespace)
            kept = await _in_thread(partial(_set_aside, folder, replace(target, namespace=namespace)))
            await _begin_there(store, own_drain, request, namespace)
        sentences = (
            [] if plan.done == 0 and not was_drained else ["an export that was cut short was completed"]
        )
        if plan.others:
            sentences.append(f"replaced, or gone: {_named(plan.others)}")
        if own_drain is not None:
            sentences.append("the lab is drained; let leases begin: jumpstarter-controller resume")
        return MoveReport(namespace, _counts(lab), addresses.endpoint, kept, sentences=tuple(sentences))


async def _begin_there(store: Store, own_drain: Drain | None, request: str, namespace: str) -> None:
    """The lab is in the namespace, and nowhere else: leases may begin there, if they might where it was."""
    try:
        await _settle_drain(store, own_drain, request)
    except (StoreError, Conflict, Unknown) as error:
        raise BackupError(
            f"the lab is in the namespace {namespace} now, but no lease begins there yet: {error}; run the same "
            "command again to complete it"
        ) from error


async def import_lab(
    folder: DataFolder, source: KubernetesLab | None, *, overwrite: bool = False
) -> MoveReport:
    """Move the lab of a namespace to a folder. With `overwrite` it takes the place of what is there, which is kept.

    Without `source` it is where the folder's lab was exported to. Raises as `export_lab`.
    """
    folder.prepare()
    with folder.locked() as alone, collapsed():
        _check_stopped(folder, is_stopped=alone)
        folder.check_whole()
        try:
            addresses = folder.addresses()
        except DataError:
            addresses = None
        source = source or (addresses.kubernetes if addresses else None)
        if source is None:
            raise BackupUsageError(
                f"the lab of {folder.path} is not in Kubernetes; say where it is with --namespace or --kubeconfig"
            )
        async with _opened(source, folder) as (store, shared, namespace):
            snapshot = await _in_thread(store.snapshot)
            if snapshot.damaged:
                raise BackupError(
                    f"invalid objects cannot be moved: {_named(sorted(snapshot.damaged, key=str))}; "
                    "correct or delete them with kubectl"
                )
            left = list(store.rejected)  # of leases, which count for nothing
            lab = _lab_of(snapshot)
            files = await _in_thread(shared.secret.read) or {}
            has_all = await _in_thread(partial(_is_here, folder, snapshot))
            if folder.database.exists() and not has_all and not overwrite:
                raise BackupUsageError(
                    f"{folder.database} is there already, and is another lab or another state of it; choose another "
                    "--data, or keep it beside the new one with --overwrite"
                )
            request = request_of(_signing_key(folder, files, shared.secret.NAME))
            was_drained = await _drain(store, MOVING, request)
            kept = None
            try:
                if not has_all:
                    lab = _lab_of(await _in_thread(store.snapshot))  # as it is now
                    kept = await _in_thread(partial(_take_in, folder, lab, files))
                if addresses is not None:
                    folder.remember(replace(addresses, kubernetes=None))
            except JumpstarterError:
                if not was_drained:
                    await _undrain(store, request)
                raise
            try:
                await _drain(store, replace(MOVING, reason=MOVED), request)
            except StoreError as error:
                raise BackupError(
                    f"the lab is in {folder.path} now, but this could not be recorded in the namespace {namespace}: "
                    f"{error}; run the same command again to complete it"
                ) from error
        sentences = [f"leases that cannot be read are not moved: {_named(left)}"] if left else []
        sentences.append(
            f"the objects stay in the namespace {namespace}, and no lease begins there; delete them when they are not "
            "needed"
        )
        if source.tokens != "own":
            sentences.append("tokens of ServiceAccounts are not valid here: their owners need new tokens")
        endpoint = addresses.endpoint if addresses else ""
        return MoveReport(
            namespace, _counts(lab), endpoint, kept, was_done=has_all, sentences=tuple(sentences)
        )


def _check_stopped(folder: DataFolder, *, is_stopped: bool) -> None:
    if not is_stopped:
        raise BackupUsageError(
            f"{folder.path} is in use: stop its controller first (systemctl stop jumpstarter-controller), or wait for "
            "the command that moves or restores this lab"
        )


async def _exported_before(folder: DataFolder, target: KubernetesLab) -> MoveReport:
    """What the folder's lab consists of, which is in Kubernetes. BackupUsageError: in another namespace."""
    addresses = folder.addresses()
    where = addresses.kubernetes
    assert where is not None
    if target.namespace not in {"", where.namespace}:
        raise BackupUsageError(f"the lab of {folder.path} is in the namespace {where.namespace} already")
    where = replace(where, kubeconfig=target.kubeconfig or where.kubeconfig)
    store, _ = await _in_thread(partial(open_kubernetes, where))
    with closing(store):
        lab = _lab_of(await _in_thread(store.snapshot))
        drain = lab.get(Drain, Drain.KEY)
        if drain is not None and drain.reason == MOVING.reason:
            request = request_of(read_private(folder.signing_key))
            await _begin_there(store, None, request, store.namespace)
        return MoveReport(store.namespace, _counts(lab), addresses.endpoint, was_done=True)


@asynccontextmanager
async def _opened(
    lab: KubernetesLab, folder: DataFolder
) -> AsyncIterator[tuple[KubernetesStore, Shared, str]]:
    """The lab's objects, while no controller uses them.

    Raises:
        BackupUsageError: one does.
        FollowedError, in the block: another has begun to.
    """
    store, shared = await _in_thread(partial(open_kubernetes, lab))
    leadership = Leadership(shared.lock, folder.replica())
    give(folder.path, folder.path / "replica", folder.path / "lock")
    with closing(store):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leadership.run)
                with trio.move_on_after(LEAD_SECONDS) as waiting:
                    await leadership.until_leads(lambda _: None)
                if waiting.cancelled_caught and leadership.trouble:
                    raise StoreError(leadership.trouble)
                if waiting.cancelled_caught:
                    await _refuse(leadership.holder, store.namespace, shared.replicas)
                nursery.start_soon(leadership.until_followed)
                if name := await _find_follower(shared.replicas):
                    raise BackupUsageError(
                        f"controller {name} runs on the namespace {store.namespace}; stop it first"
                    )
                yield store, shared, store.namespace
                nursery.cancel_scope.cancel()
        finally:
            await leadership.resign()


async def _refuse(holder: str, namespace: str, records: ReplicaRecords) -> NoReturn:
    """Raise a BackupUsageError that names the controller or the other move that uses the namespace."""
    if holder in await _in_thread(records.all):
        raise BackupUsageError(
            f"controller {holder} runs on the namespace {namespace}; stop it first "
            f"(kubectl scale --namespace {namespace} --replicas 0 deployment ...)"
        )
    raise BackupUsageError(
        f"another export or import, by {holder}, has the namespace {namespace}; wait for its end, and run this again"
    )


async def _find_follower(records: ReplicaRecords) -> str:
    """A controller that lives and does not lead; empty if there is none.

    One that was stopped has taken its record away; whether one was killed is seen after a while.
    """
    before = await _in_thread(records.all)
    if before:
        await trio.sleep(ANNOUNCE_SECONDS + LOOK_SECONDS)
    after = await _in_thread(records.all) if before else {}
    return next((name for name, one in after.items() if before.get(name) != one), "")


async def _in_thread(work: Callable[[], T]) -> T:
    """It ends, also when this is cancelled: what it writes is known then."""
    return await trio.to_thread.run_sync(work)


def _check_namespace(state: LabState, namespace: str) -> None:
    """Check that all records are in this namespace, because tokens name it."""
    found = namespaces_of(state) - {namespace}
    if not found:
        return
    names = ", ".join(sorted(found))
    what = f"the namespaces {names}" if len(found) > 1 else f"the namespace {names}"
    raise BackupUsageError(
        f"the lab has {what}, and would be in the namespace {namespace} of the cluster, where no token of it is valid; "
        "say --namespace, and make one of that name in the cluster if there is none. A lab in Kubernetes has one"
    )


def _check_target(
    namespace: str, plan: MovePlan, keys: Sequence[str], secret: str, *, overwrite: bool
) -> None:
    if overwrite or not (plan.others or keys):
        return
    words = [_named(plan.others)] if plan.others else []
    if keys:
        words.append(f"other keys, in the Secret {secret}")
    raise BackupUsageError(
        f"the namespace {namespace} has what is not this lab's, or another state of it: {', '.join(words)}; nothing "
        "was changed. Choose another cluster, or have all of it replaced with --overwrite"
    )


def _files(folder: DataFolder) -> dict[str, bytes]:
    found = {}
    for name in SHARED_FILES:
        path = folder.path / name
        if path.exists():
            found[name] = read_private(path) if name in SECRETS else path.read_bytes()
    return found


def _differing(secret: Mapping[str, bytes] | None, files: Mapping[str, bytes]) -> list[str]:
    return [name for name, body in (secret or {}).items() if name in files and files[name] != body]


async def _share(secret: SharedSecret, there: Mapping[str, bytes] | None, files: Mapping[str, bytes]) -> None:
    if there is None:
        if not await _in_thread(partial(secret.make, files)):
            raise BackupError(
                f"the Secret {secret.NAME} was created at the same moment; run the command again"
            )
        return
    differs = any(there.get(name) != body for name, body in files.items())
    if differs and not await _in_thread(partial(secret.add, files)):
        raise BackupError(f"the Secret {secret.NAME} was changed at the same moment; run the command again")


async def _write(store: Store, plan: MovePlan, namespace: str) -> None:
    """Make the changes of the plan. After an error, the next run continues with the rest."""
    total = len(plan.changes)
    written = 0
    revisions: dict[object, int] = {}
    try:
        while written < total:
            part = [
                one._replace(revision=revisions.get(one.ref, one.revision))
                for one in plan.changes[written : written + CHANGES_PER_WRITE]
            ]
            for done in await _in_thread(partial(store.commit, part)):
                revisions[done.ref] = done.revision
            written += len(part)
    except (StoreError, Conflict, Unknown) as error:
        raise BackupError(
            f"{written} of {total} changes to the namespace {namespace} were made, and then: {error}. The lab is in "
            "its folder as before; run the same command again to go on"
        ) from error


async def _drain(store: Store, drain: Drain, request: str) -> bool:
    """Have no lease begin in the namespace; whether it was so because of a move of this lab."""
    stored = await _in_thread(partial(store.read, key_of(drain)))
    if stored is not None and stored.request != request:
        return False  # for its administrator's own reason
    if not (isinstance(before := stored and stored.record, Drain) and before.reason == drain.reason):
        revision = None if stored is None else stored.revision
        change = Change(key_of(drain), Half.SPEC, drain, revision, request)
        await _in_thread(partial(store.commit, [change]))
    return stored is not None


async def _undrain(store: Store, request: str) -> None:
    """The move is cancelled: the lab stays where it was, and leases begin again."""
    stored = await _in_thread(partial(store.read, key_of(MOVING)))
    if stored is not None and stored.request == request:
        await _settle_drain(store, None, request)


async def _settle_drain(store: Store, wanted: Drain | None, request: str) -> None:
    """Have the lab drained if it was, for its administrator's reason, and else not any more."""
    ref = (Drain, Drain.KEY)
    stored = await _in_thread(partial(store.read, ref))
    if stored is None and wanted is None:
        return
    revision = None if stored is None else stored.revision
    of_whom = request if wanted is None else ""  # or else the next move would take it for its own
    await _in_thread(partial(store.commit, [Change(ref, Half.SPEC, wanted, revision, of_whom)]))


def _set_aside(folder: DataFolder, lab: KubernetesLab) -> Path | None:
    """Move the database and the keys of a lab that is in Kubernetes now to another folder."""
    with (
        explained(f"{folder.database} cannot be kept beside", OTHER_PLACE),
        _stage(folder) as stage,
    ):
        kept = keep_data(folder, stage, "export")
        folder.remember(replace(folder.addresses(), kubernetes=lab))
        remove(folder.database)
        sync_folder(folder.path)
    return kept


def _is_here(folder: DataFolder, snapshot: Snapshot) -> bool:
    if not folder.database.exists():
        return False
    try:
        return is_same(load(folder.database), (one.record for one in snapshot.records.values()))
    except StoreError:
        return False


def _signing_key(folder: DataFolder, files: Mapping[str, bytes], secret: str) -> bytes:
    """The signing key of the lab. BackupUsageError: it was not found."""
    if key := files.get(folder.signing_key.name):
        return key
    if not folder.signing_key.exists():
        raise BackupUsageError(
            f"the lab's keys are neither in the Secret {secret} nor in {folder.path}, and without them no token is "
            "valid; copy tokens.key and router.key there first"
        )
    return read_private(folder.signing_key)


def _take_in(folder: DataFolder, state: LabState, files: Mapping[str, bytes]) -> Path | None:
    """Make the folder's file that lab's; where what was there is."""
    with (
        explained(f"the lab cannot be written to {folder.path}", OTHER_PLACE),
        _stage(folder) as stage,
    ):
        new = DataFolder(stage / "new")
        new.path.mkdir(0o700)
        store = SqliteStore(new.database)
        try:
            fill(store, *records_of(state), *_drain_of(state))
        finally:
            store.close()
        with new.database.open("rb") as file:
            os.fsync(file.fileno())
        kept = None
        if folder.database.exists() or _differing(files, _files(folder)):
            kept = keep_data(folder, stage, "import")
            remove(folder.database)
        names = [name for name in SHARED_FILES if name in files]
        for name in names:
            write_private(folder.path / name, files[name])
        give(folder.path, new.database, *(folder.path / name for name in names))
        remove_sides(folder.database)
        new.database.replace(folder.database)
        sync_folder(folder.path)
    return kept


def _drain_of(state: LabState) -> list[Record]:
    """The drain of the lab's administrator, without that of a move."""
    drain = state.get(Drain, Drain.KEY)
    return [] if drain is None or drain.reason in {MOVING.reason, MOVED} else [drain]


@contextmanager
def _stage(folder: DataFolder) -> Iterator[Path]:
    """A folder in it, for a while."""
    for left in folder.path.glob(f"{STAGE}*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=STAGE, dir=folder.path) as stage:
        yield Path(stage)


def _lab_of(snapshot: Snapshot) -> LabState:
    state = LabState()
    for (kind, key), stored in snapshot.records.items():
        state.set(kind, key, stored.record)
    return state


def _counts(state: LabState) -> Mapping[str, int]:
    return Counter(record.KIND for record in records_of(state))


def _named(refs: Sequence[tuple[type[Record], object]]) -> str:
    words = [f"{kind.KIND} {shown(str(key))}" for kind, key in refs[:MAX_NAMED_RECORDS]]
    more = len(refs) - len(words)
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")
