"""Steps of tests: `storage.flash`, `storage.dump`, `storage.dut`, `storage.host`, `storage.off`."""

from __future__ import annotations

from jumpstarter_client.yamltest.steps import StepContext, step

from jumpstarter_drivers.storage.client import Compression, FlasherClient, Packing, StorageMuxClient

__all__ = ["dump", "dut", "flash", "host", "off"]

IMAGE_SECONDS = 3600.0


@step(seconds=IMAGE_SECONDS, files=("image",))
async def flash(
    client: FlasherClient,
    context: StepContext,
    image: str,
    *,
    target: str | None = None,
    compression: Packing | None = None,
    verify: bool | None = None,
    force: bool = False,
    whole: bool = False,
) -> None:
    """Write an image, a file or a URL, and verify it; only what differs, unless it is to be `whole`."""
    result = await client.flash.aio(
        context.input_file(image),
        target=target,
        compression=compression,
        verify=verify,
        force=force,
        whole=whole,
    )
    context.say(str(result))


@step(seconds=IMAGE_SECONDS)
async def dump(
    client: FlasherClient,
    context: StepContext,
    file: str,
    *,
    target: str | None = None,
    compression: Compression | None = None,
) -> str:
    """Read the storage into a file of the run's folder; its path is the result."""
    result = await client.dump.aio(context.output_file(file), target=target, compression=compression)
    context.say(str(result))
    return result.path


@step
async def dut(client: StorageMuxClient, context: StepContext, force: bool = False) -> None:
    """Connect the storage to the board."""
    await client.dut.aio(force=force)


@step
async def host(client: StorageMuxClient, context: StepContext) -> None:
    """Connect the storage to the host."""
    await client.host.aio()


@step
async def off(client: StorageMuxClient, context: StepContext) -> None:
    """Connect the storage to neither."""
    await client.off.aio()
