"""Steps of tests: `files.put`, `files.start`, `files.stop`."""

from __future__ import annotations

from jumpstarter_client.yamltest.steps import StepContext, step

from jumpstarter_drivers.file_server.client import FileServerClient

__all__ = ["put", "start", "stop"]


@step(files=("file",))
async def put(client: FileServerClient, context: StepContext, file: str, *, name: str | None = None) -> str:
    """Write a file into the folder and start the server; the file's URL is the result."""
    path = context.input_file(file)
    await client.start.aio()
    url = await client.put_file.aio(name or path.rpartition("/")[2], path)
    context.say(url)
    return url


@step
async def start(client: FileServerClient, context: StepContext) -> None:
    """Start the server."""
    await client.start.aio()


@step
async def stop(client: FileServerClient, context: StepContext) -> None:
    """Stop the server."""
    await client.stop.aio()
