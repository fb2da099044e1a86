"""The program of the child process. It runs in an environment with Jumpstarter 0.9, and imports nothing of ours.

stdin has one line, the job, and stays open for as long as the exporter lives. stdout has one JSON message per line;
what drivers print goes to stderr. See `child_messages` for both.
"""

# mypy: ignore-errors

import asyncio
import inspect
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from uuid import UUID

messages = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
os.dup2(2, 1)

from jumpstarter.common import ExporterStatus  # noqa: E402
from jumpstarter.config.exporter import ExporterConfigV1Alpha1DriverInstance as Instance  # noqa: E402
from jumpstarter.driver import Driver  # noqa: E402
from jumpstarter.driver.base import StatusCode  # noqa: E402
from jumpstarter.exporter import Session  # noqa: E402
from jumpstarter_driver_composite.driver import Composite, Proxy  # noqa: E402

MAX_LOG_LENGTH = 16 * 1024
END_SECONDS = 10
MAX_DETAILS_LENGTH = 4096
"""Of an error's text, which is sent in a header: a longer one would end the connection, for all devices."""
CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
KINDS = {
    "marker_drivercall": "call",
    "marker_streamingdrivercall": "streaming",
    "marker_streamcall": "stream",
}
lock = threading.Lock()
paths = {}
"""Of devices, by UUID."""
orphaned = threading.Event()


class StandIn(Driver):
    """A child that is a device of the exporter's own: the client uses that one."""

    @classmethod
    def client(cls):
        """Never used: the exporter reports another device in its place."""
        return "jumpstarter_driver_composite.client.CompositeClient"


class CallContext:
    """The context of a call, whose errors can be sent, whatever their text is."""

    def __init__(self, context, driver, method):
        self._context = context
        self._where = f"{method}() of {paths.get(driver.uuid, type(driver).__name__)}"

    def __getattr__(self, name):
        return getattr(self._context, name)

    async def abort(self, code, details="", trailing_metadata=()):
        """End the call."""
        text = details.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        if not text.strip():
            text = f"{self._where} failed without saying why; see the exporter's log and the driver's code"
        if len(text) > MAX_DETAILS_LENGTH:
            text = f"{text[:MAX_DETAILS_LENGTH]}..."
        await self._context.abort(code, text, trailing_metadata)

    async def abort_after(self, error):
        """End the call after what is not an Exception, and would end the process, or leave the call without an end."""
        if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():
            raise error  # the caller has left
        await self.abort(
            StatusCode.UNKNOWN,
            f"{self._where} raised {type(error).__name__}, which a driver must not; see its code",
        )


def answer_all_errors():
    """Make the calls of all drivers end with an error that can be sent."""
    call, streaming_call = Driver.DriverCall, Driver.StreamingDriverCall

    async def driver_call(self, request, context):
        checked = CallContext(context, self, request.method)
        try:
            return await call(self, request, checked)
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            await checked.abort_after(error)

    async def streaming_driver_call(self, request, context):
        checked = CallContext(context, self, request.method)
        try:
            async for result in streaming_call(self, request, checked):
                yield result
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            await checked.abort_after(error)

    Driver.DriverCall, Driver.StreamingDriverCall = driver_call, streaming_driver_call


class LogMessages(logging.Handler):
    """Sends log records to the exporter."""

    def emit(self, record):
        """Send a record."""
        try:
            text = record.getMessage()[:MAX_LOG_LENGTH]
            send(kind="log", level=record.levelname, logger=record.name[:100], text=text, time=record.created)
        except Exception:
            self.handleError(record)


def send(**message):
    """Send a message, from any thread."""
    with lock:
        messages.write(json.dumps(message) + "\n")


def die_with_parent():
    """End when stdin does, with all that drivers have started."""
    while os.read(0, 4096):
        pass
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os.killpg(0, signal.SIGKILL)


def own_children(driver):
    """Without second names and devices of the exporter."""
    return [(name, one) for name, one in driver.children.items() if not isinstance(one, (Proxy, StandIn))]


def walk(path, driver, seen):
    """A device and those below it with their paths, each once."""
    if id(driver) in seen:
        return
    seen.add(id(driver))
    yield path, driver
    for name, child in own_children(driver):
        yield from walk(f"{path}.{name}", child, seen)


def describe(path, driver):
    """A device as a `HostedDevice`."""
    report = driver.report()
    client = report.labels.pop("jumpstarter.dev/client", "")
    if not CLASS.fullmatch(client):
        raise ValueError(
            f"its client() returns {client[:100]!r}; it takes the path of a class: package.module.Class"
        )
    for key, value in report.labels.items():
        if not key or not key.isascii() or not key.isprintable() or len(key) > 253 or len(value) > 4096:
            raise ValueError(f"its label {key[:100]!r} is not valid; correct its extra_labels()")
    return {
        "path": path,
        "uuid": str(driver.uuid),
        "client": client,
        "labels": dict(report.labels),
        "description": report.description,
        "methods_description": dict(report.methods_description),
        "methods": [describe_method(one) for one in exported(driver)],
    }


def exported(driver):
    """The names and functions of its exported methods."""
    for name in dir(type(driver)):
        function = inspect.getattr_static(type(driver), name)
        for marker, kind in KINDS.items():
            if getattr(function, marker, None):
                yield name, kind, function


def describe_method(method):
    """A method as a `MethodReport`."""
    name, kind, function = method
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]  # without self
        signature = ", ".join(map(str, parameters))
    except (TypeError, ValueError):
        signature = "..."
    description = (inspect.getdoc(function) or "").strip().partition("\n")[0]
    return {"name": name, "kind": kind, "signature": signature, "description": description}


def build(job):
    """The root with all devices that can be made, the devices by path, and why the others cannot."""
    devices, failed = {}, {}
    for path, spec in job["devices"].items():
        try:
            devices[path] = Instance.model_validate(spec).instantiate()
        except (Exception, SystemExit) as error:
            failed[path] = f"{type(error).__name__}: {error}"
    root = compose(devices)
    for path in list(devices):
        try:
            devices[path].enumerate(root=root)
        except Exception as error:  # a ref to a device that could not be made
            failed[path] = f"{type(error).__name__}: {error}"
            devices.pop(path).close()
    root = compose(devices)
    for path, device in list(walk_all(devices)):
        if path in job["uuids"]:
            device.uuid = UUID(job["uuids"][path])  # before the session makes its table of them
    return root, devices, failed


def walk_all(devices):
    """All devices with their paths, each once."""
    seen = set()
    for path, device in devices.items():
        yield from walk(path, device, seen)


def compose(devices):
    """A root with the devices at their paths."""
    root = Composite(children={})
    for path, device in devices.items():
        at = root
        *groups, name = path.split(".")
        for group in groups:
            at = at.children.setdefault(group, Composite(children={}))
        at.children[name] = device
    return root


def ready(devices, failed):
    """Send the report. A device that cannot be described fails, and the others do not."""
    described, seen = [], set()
    paths.update((one.uuid, path) for path, one in walk_all(devices))
    for path, device in devices.items():
        try:
            described += [describe(*one) for one in walk(path, device, seen)]
        except (Exception, SystemExit) as error:
            failed[path] = f"{type(error).__name__}: {error}"
    send(kind="ready", devices=described, failed=failed)


async def serve(root, devices, failed, socket):
    """Serve until SIGTERM."""
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    with Session(root_device=root) as session:  # resets the drivers, and closes them at its end
        async with session.serve_port_async(f"unix:{socket}"):
            session.update_status(ExporterStatus.LEASE_READY)
            ready(devices, failed)
            await done.wait()


def main():
    """Serve, or only report, without a socket."""
    job = json.loads(sys.stdin.buffer.raw.readline())
    threading.Thread(target=die_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, handlers=[LogMessages()])
    answer_all_errors()
    root, devices, failed = build(job)
    if job["socket"]:
        asyncio.run(serve(root, devices, failed, job["socket"]))
    else:
        ready(devices, failed)
        root.close()
    if orphaned.is_set():  # nobody else ends what drivers have started
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
