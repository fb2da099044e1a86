"""The lab that a storm passes over: controller and router, exporters, users, and what can be done to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2

from tests.faults.storm.ledger import Ledger
from tests.interop import exporters
from tests.interop.raw import Caller
from tests.support.administration import administer
from tests.support.proxy import Handle, proxied

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60.0
DISK_SIZE = "16m"
NOTICE = "grpcOptions: {grpc.keepalive_time_ms: 1000, grpc.keepalive_timeout_ms: 2000}\n"
"""A silent network is noticed after 3 s instead of 40."""
EXPORT = """export:
  power: {{type: power.MockPower}}
  echo: {{type: network.EchoNetwork}}
  witness: {{type: tests.faults.storm.drivers.Witness, config: {{path: {witness}}}}}
  hostile: {{type: tests.faults.storm.drivers.Hostile}}
"""
FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"


class Process:
    """One that is started again after it was killed. Its output goes to a file that grows."""

    def __init__(self, command: exporters.Command, home: Path, log: Path, **environment: str) -> None:
        self._command = [str(word) for word in command]
        self._home = home
        self.log = log
        self._environment = exporters.clean_environment(home) | {"PYTHONPATH": str(ROOT)} | environment
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                env=self._environment,
            )

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it with that signal, and start it again."""
        self.end(number)
        self.start()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code; killed if it has not ended a minute later, which is an error."""
        self.process.send_signal(number)
        try:
            return self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(
                f"{self._command[0]} did not end within {START_SECONDS:.0f} s; see {self.log}"
            ) from None

    def last_words(self) -> str:
        """The last line that it wrote."""
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def resident(self) -> int:
        """Bytes of memory that it holds now; 0 if it has ended."""
        with suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf(
                "SC_PAGE_SIZE"
            )
        return 0


class StormLab:
    """Everything in `home`. `data` is where the controller's records are."""

    def __init__(
        self, home: Path, data: Path, stack: ExitStack, boards: int, users: int, faketime: Path | None
    ) -> None:
        self.home, self.data = home, data
        self._stack = stack
        self._clock = home / "clock"
        self.set_clock(0)
        ports = [exporters.free_port() for _ in range(2)]
        self.port = ports[0]
        self.proxies: list[Handle] = [stack.enter_context(proxied(port)) for port in (*ports, ports[0])]
        to_controller, to_router, exporters_to_controller = self.proxies
        command: exporters.Command = [exporters.scripts() / "jumpstarter-controller", "run", "--data", data]
        command += [
            "--listen",
            f"127.0.0.1:{ports[0]}",
            "--with-router",
            "--router-listen",
            f"127.0.0.1:{ports[1]}",
        ]
        command += ["--router-endpoint", f"127.0.0.1:{to_router.port}"]
        clock = {} if faketime is None else _faked(faketime, self._clock)
        self.controller = self._process(command, "controller", **clock)
        self.until(self._answers, START_SECONDS)
        self.hostile = self._create("Exporter", "liar")
        self._observer = self._create("Client", "observer")
        self.exporters = [
            self._exporter(f"board-{number}", exporters_to_controller) for number in range(boards)
        ]
        self.until(self.is_free, START_SECONDS)
        self.users = [self._user(f"user-{number}", to_controller) for number in range(users)]

    def set_clock(self, offset: int) -> None:
        """Put the controller's time of day so many seconds ahead (read by libfaketime at each look at the clock)."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{offset:+d}s\n")
        new.replace(self._clock)

    def _process(self, command: exporters.Command, name: str, **environment: str) -> Process:
        home = self.home / name
        home.mkdir()
        made = Process(command, home, self.home / f"{name}.log", **environment)
        self._stack.callback(lambda: made.process.poll() is None and made.end(signal.SIGKILL))
        return made

    def _exporter(self, name: str, proxy: Handle) -> Process:
        file = self._configuration("exporter", name, proxy, "--label", "board=rpi4")
        export = EXPORT.format(witness=self._marks(name))
        file.write_text(file.read_text().replace("export: {}\n", export))
        return self._process([exporters.scripts() / "jumpstarter-exporter", "run", "--config", file], name)

    def _user(self, name: str, proxy: Handle) -> Process:
        file = self._configuration("client", name, proxy)
        program = Path(__file__).with_name("visitor.py")
        command: exporters.Command = [sys.executable, program, file, name, self._report(name)]
        return self._process(command, name)

    def _configuration(self, kind: str, name: str, proxy: Handle, *options: str) -> Path:
        file = self.home / f"{name}.yaml"
        done = administer(self.data, kind, "create", name, "--save", file, *options)
        assert done.returncode == 0, done.stderr
        text = file.read_text().replace(f"127.0.0.1:{self.port}", f"127.0.0.1:{proxy.port}")
        file.write_text(text.replace("grpcOptions: {}\n", "") + NOTICE)
        return file

    def _create(self, kind: str, name: str) -> lab_pb2.Credential:
        request = lab_pb2.CreateRequest(kind=kind, namespace="default", name=name)
        with grpc.insecure_channel(f"unix:{self.data}/admin.sock") as channel:
            credential: lab_pb2.Credential = Caller(channel).admin("Create", request)
        return credential

    def _marks(self, exporter: str) -> Path:
        return self.home / f"{exporter}.marks"

    def _report(self, user: str) -> Path:
        return self.home / f"{user}.report"

    # What is seen

    def _answers(self) -> bool:
        return administer(self.data, "exporter", "list").returncode == 0

    def states(self) -> set[str]:
        """What the exporters are to the controller."""
        done = administer(self.data, "exporter", "list", "-o", "json")
        if done.returncode != 0:
            return set()
        found = json.loads(done.stdout)["exporters"]
        return {one["status"] for one in found if one["name"] != "liar"}

    def leases(self, *, only_active: bool) -> list[str]:
        """Names of all leases that the controller knows."""
        request = client_pb2.ListLeasesRequest(parent="namespaces/default", only_active=only_active)
        observer = Caller.of(self._observer)
        try:
            return [one.name.rpartition("/")[2] for one in observer.client("ListLeases", request).leases]
        finally:
            observer.close()

    def is_free(self) -> bool:
        """Whether all boards are free and can be leased."""
        return self.states() == {"AVAILABLE"} and not self.leases(only_active=True)

    def ledger(self) -> Ledger:
        """What all users wrote down so far; a line that `kill -9` cut is left out."""
        entries = []
        for file in sorted(self.home.glob("*.report")):
            for line in file.read_text().splitlines():
                with suppress(json.JSONDecodeError):
                    entries.append(json.loads(line))
        return Ledger(entries)

    def marks(self) -> dict[str, list[str]]:
        """Who used each board, in order."""
        return {file.stem: file.read_text().splitlines() for file in sorted(self.home.glob("*.marks"))}

    def tracebacks(self) -> list[str]:
        """Logs of ours with a traceback, and its end."""
        found = []
        for process in (self.controller, *self.exporters, *self.users):
            text = process.log.read_text(errors="replace")
            if "Traceback" in text:
                found.append(f"{process.log.name}: {text[text.index('Traceback') :][:3000]}")
        return found

    def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Look again and again until it is so.

        Raises:
            TimeoutError: it is not.
        """
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.2)

    # What is done

    def fill(self) -> Path:
        """Leave no room on the controller's disk until the file is deleted."""
        filler = self.data / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        return filler

    def heal(self) -> None:
        """Make everything right again."""
        (self.data / "filler").unlink(missing_ok=True)
        self.set_clock(0)
        for proxy in self.proxies:
            proxy.heal()


def _faked(library: Path, clock: Path) -> dict[str, str]:
    """An environment in which the time of day is what the file says, and durations are right."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def faketime() -> Path | None:
    """The library of Debian's package libfaketime."""
    return next(Path("/").glob(FAKETIME.removeprefix("/")), None)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Make the folder a file system of its own that can be filled; False if only root could."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)
