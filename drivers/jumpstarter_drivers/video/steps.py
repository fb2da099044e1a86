"""Steps of tests: `video.snapshot`, `video.wait`, `video.record`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.video.client import DEFAULT_TOLERANCE, NoMatchError, VideoClient

__all__ = ["record", "snapshot", "wait"]


@step
async def snapshot(client: VideoClient, context: StepContext, file: str | None = None) -> dict[str, Any]:
    """Save a picture into the run's folder: as that file, or as `snapshot.jpg`, `snapshot-2.jpg` and so on."""
    saved = await client.save_snapshot.aio(output=_output(context, file, "snapshot", "jpg"))
    context.say(str(saved))
    return {"file": saved.path, "width": saved.width, "height": saved.height}


@step
async def record(
    client: VideoClient, context: StepContext, seconds: float = 10.0, *, file: str | None = None
) -> dict[str, Any]:
    """Save a film of some seconds into the run's folder, as `clip.mkv` or the file that is named."""
    saved = await client.record.aio(seconds, output=_output(context, file, "clip", "mkv"))
    context.say(str(saved))
    return {"file": saved.path, "pictures": saved.pictures, "seconds": saved.seconds, "begin": saved.begin}


@step(files=("like", "unlike"))
async def wait(
    client: VideoClient,
    context: StepContext,
    like: str | None = None,
    *,
    unlike: str | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    region: list[int] | None = None,
) -> dict[str, Any]:
    """Wait until the board's picture is like that of a file, or unlike it; in any case the last one is saved.

    `region` is left, top, width and height of the part that counts.
    """
    if (like is None) == (unlike is None):
        raise ValueError("video.wait takes either like or unlike, a file with a picture")
    find = client.wait_like if like is not None else client.wait_unlike
    try:
        found = await find.aio(
            context.input_file(like or unlike or ""),
            timeout=context.seconds,
            tolerance=tolerance,
            region=region,
        )
    except NoMatchError:
        with trio.move_on_after(2, shield=True):
            await _save_last(client, context)
        raise
    file = _output(context, None, "match", "jpg")
    await trio.Path(file).write_bytes(found.data)
    context.say(f"difference {found.difference:.3f}; saved {file}")
    return {"file": str(file), "difference": round(found.difference, 4)}


async def _save_last(client: VideoClient, context: StepContext) -> None:
    try:
        saved = await client.save_snapshot.aio(output=_output(context, None, "no-match", "jpg"))
    except JumpstarterError as error:
        context.say(f"no picture of it was saved: {error}")
    else:
        context.say(str(saved))


def _output(context: StepContext, file: str | None, name: str, suffix: str) -> Path:
    path, count = context.output_file(file or f"{name}.{suffix}"), 1
    path.parent.mkdir(parents=True, exist_ok=True)
    if file is not None:
        return path
    while path.exists():
        count += 1
        path = context.output_file(f"{name}-{count}.{suffix}")
    return path
