"""Drivers as a lab writes them for Jumpstarter 0.9. They run in its environment."""

import asyncio
import builtins
import contextlib
import os
import subprocess
import sys
import time

import anyio
from jumpstarter.driver import Driver, export, exportstream
from pydantic.dataclasses import dataclass


@dataclass(kw_only=True)
class Greeter(Driver):
    """Says hello, and does what drivers should not."""

    word: str = "hello"
    note: str = ""
    """A file in which each of its objects leaves a word."""

    def __post_init__(self):
        super().__post_init__()
        self._tell("made")

    @classmethod
    def client(cls):
        return "lab_clients.GreeterClient"

    def extra_labels(self):
        return {"lab.example/word": self.word, "jumpstarter.dev/state": "lie"}

    def reset(self):
        self._tell("reset")

    def close(self):
        self._tell("closed")

    def _tell(self, what):
        if self.note:
            with open(self.note, "a") as file:
                file.write(f"{what} {os.getpid()}\n")

    @export
    async def greet(self, name: str, times: float = 1):
        """Greet somebody.

        More about that.
        """
        self.logger.info("greeting %s", name)
        print("printed for", name)
        return " ".join([f"{self.word} {name}"] * int(times))

    @export
    def pid(self):
        return os.getpid()

    @export
    def environment(self):
        links = []
        for one in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # that of the folder
                links.append(os.readlink(f"/proc/self/fd/{one}"))
        return {"variables": sorted(os.environ), "files": [one for one in links if one.startswith("/")]}

    @export
    def refuse(self):
        raise ValueError("no such thing")

    @export
    def fail(self, kind: str, text: str):
        """Raise an exception with a text, in which question marks become bytes of a file name that is no text."""
        raise getattr(builtins, kind)(text.replace("?", "\udc80"))

    @export
    async def fail_later(self, kind: str):
        yield 1
        raise getattr(builtins, kind)

    @export
    async def cancel_itself(self):
        raise asyncio.CancelledError

    @export
    async def count(self, most: float):
        try:
            for number in range(int(most)):
                yield number
                await asyncio.sleep(0)
        finally:
            self._tell("counted")

    @export
    def crash(self):
        os._exit(7)

    @export
    async def sleep(self):
        try:
            self._tell("sleeping")
            await asyncio.sleep(3600)
        finally:
            self._tell("woken")

    @export
    def block(self):
        self._tell("blocking")
        time.sleep(3600)

    @export
    def start_program(self):
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid

    @export
    async def length(self, handle: str):
        async with self.resource(handle) as file:
            total = 0
            async for data in file:
                total += len(data)
            return total

    @export
    async def fill(self, handle: str, size: float):
        async with self.resource(handle) as file:
            await file.send(b"x" * int(size))

    @exportstream
    @contextlib.asynccontextmanager
    async def connect(self):
        near, far = _pair()

        async def echo():
            async with far:
                async for data in far:
                    await far.send(data.upper())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo)
            yield near
            tasks.cancel_scope.cancel()


@dataclass(kw_only=True)
class WrongClient(Greeter):
    """Names no class."""

    @classmethod
    def client(cls):
        return "os;system"


@dataclass(kw_only=True)
class WrongLabels(Greeter):
    """Has a label that cannot be sent."""

    def extra_labels(self):
        return {"lab.example/file": "\udc80"}


@dataclass(kw_only=True)
class Broken(Driver):
    """Its hardware is missing."""

    @classmethod
    def client(cls):
        return "lab_clients.GreeterClient"

    def __post_init__(self):
        super().__post_init__()
        raise FileNotFoundError("no adapter")


@dataclass(kw_only=True)
class Slow(Greeter):
    """Is not made for an hour."""

    def __post_init__(self):
        super().__post_init__()
        time.sleep(3600)


def _pair():
    first, second = anyio.create_memory_object_stream(16), anyio.create_memory_object_stream(16)
    near = anyio.streams.stapled.StapledObjectStream(first[0], second[1])
    far = anyio.streams.stapled.StapledObjectStream(second[0], first[1])
    return near, far
