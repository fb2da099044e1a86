"""A lab whose every connection leads through a proxy, and its users."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.interop import exporters
from tests.support.lab import Lab
from tests.support.proxy import Connection, Handle, Which, proxied

EXPORT = "export:\n  power: {type: power.MockPower}\n  echo: {type: network.EchoNetwork}\n"
NOTICE = "grpcOptions: {grpc.keepalive_time_ms: 1000, grpc.keepalive_timeout_ms: 2000}\n"
"""A silent network is noticed after 3 s instead of 40."""
LIMIT = 60.0


class User:
    """A process of `user.py`."""

    def __init__(self, lab: NetworkLab, client: Path, duration: float = 600) -> None:
        program = Path(__file__).with_name("user.py")
        self.process = subprocess.Popen(
            [sys.executable, program, client, str(duration)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=exporters.clean_environment(lab.home),
            cwd=lab.home,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.log: list[str] = []
        """What it wrote to stderr."""
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_log)
        ]
        for reader in self._readers:
            reader.start()

    def _read_answers(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())

    def begin(self, line: str) -> None:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, limit: float = LIMIT) -> str:
        """What came of it; an error if nothing does."""
        try:
            return self._lines.get(timeout=limit)
        except queue.Empty:
            raise AssertionError(f"it hangs; its log: {self.log}") from None

    def silent(self, seconds: float) -> bool:
        """Whether nothing is answered for so long."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return True
        raise AssertionError(f"it answered {line!r}")

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has been answered so far."""
        return self._lines.empty()

    def do(self, line: str, limit: float = LIMIT) -> str:
        self.begin(line)
        return self.answer(limit)

    def end(self) -> int:
        """Have it give its board back; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(LIMIT)
        self._close()
        return code

    def kill(self) -> None:
        """Without a word."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join(LIMIT)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def is_error(answer: str) -> bool:
    return answer.startswith("error ") and (
        "broke" in answer or "other side" in answer or "connection" in answer
    )


def works_again(user: User, line: str) -> None:
    """A call that is made before the fault has been heard of is one that ran when it happened: the second works."""
    answer = user.do(line)
    if not answer.startswith("done"):
        assert is_error(answer), answer
        answer = user.do(line)
    assert answer.startswith("done"), (answer, user.log)


class NetworkLab(Lab):
    """Controller, router, one exporter, and a proxy in front of each listener for each side."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        super().__init__(home, stack)
        self.client_controller = self.stack.enter_context(proxied(self.port))
        self.exporter_controller = self.stack.enter_context(proxied(self.port))
        self.to_router = self.stack.enter_context(proxied(self.router_port))
        self.users: list[User] = []
        self.stack.callback(self.kill_users)
        self.start_controller("--router-endpoint", f"127.0.0.1:{self.to_router.port}")
        self.admin("exporter", "create", "one", "--label", "board=rpi4", "--save", home / "one.yaml")
        self._lead("one", self.exporter_controller, EXPORT)
        self.start_exporter("one", wait=False)
        for name in ("ann", "bob", "hurried"):
            self.client(name)
            self._lead(name, self.client_controller)
        # Only its own limit ends a try.
        hurried = home / "hurried.yaml"
        hurried.write_text(hurried.read_text().replace(NOTICE, "leases: {dial_timeout: 5}\n"))
        self.until(self.free)

    def _lead(self, name: str, proxy: Handle, export: str = "") -> None:
        file = self.home / f"{name}.yaml"
        text = file.read_text().replace(f"127.0.0.1:{self.port}", f"127.0.0.1:{proxy.port}")
        file.write_text(text.replace("export: {}\n", export).replace("grpcOptions: {}\n", "") + NOTICE)

    def user(self, name: str = "ann", duration: float = 600) -> User:
        """One that has asked for the board."""
        self.users.append(User(self, self.home / f"{name}.yaml", duration))
        return self.users[-1]

    def begin_cycle(self, user: User, seconds: float) -> None:
        """Have a user's call take so long; it has reached the board."""

        def switched() -> int:
            return self.exporters["one"].log.read_text().count("power off")

        before = switched()
        user.begin(f"cycle {seconds}")
        self.until(lambda: switched() > before)

    def kill_users(self) -> None:
        while self.users:
            self.users.pop().kill()

    def until(self, holds: Callable[[], bool]) -> None:
        """As a lab's; what its processes have said explains why not."""
        try:
            super().until(holds)
        except AssertionError as error:
            said = [daemon.log.read_text()[-3000:] for daemon in (self.controller, *self.exporters.values())]
            raise AssertionError("\n".join([str(error), self.admin("exporter", "list"), *said])) from None

    def free(self) -> bool:
        """Whether the board is free and can be leased."""
        leases = [self.command("lease", "list", "-o", "name", client=one).split() for one in ("ann", "bob")]
        return leases == [[], []] and "AVAILABLE" in self.admin("exporter", "list")

    def command(self, *words: str, client: str) -> str:
        """What `jumpstarter` prints for that client, past the proxies."""
        file = self.home / f"direct-{client}.yaml"
        text = (self.home / f"{client}.yaml").read_text()
        file.write_text(text.replace(f"127.0.0.1:{self.client_controller.port}", f"127.0.0.1:{self.port}"))
        done = subprocess.run(
            [exporters.scripts() / "jumpstarter", *words, "--client", file],
            env=exporters.clean_environment(self.home),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def link(self, name: str) -> tuple[Handle, Which]:
        """A connection of the lab by its name, such as "client-router"."""
        exporter = self.exporters["one"].process.pid

        def of_exporter(one: Connection) -> bool:
            return one.is_of(exporter)

        return {
            "client-controller": (self.client_controller, lambda _: True),
            "exporter-controller": (self.exporter_controller, lambda _: True),
            "client-router": (self.to_router, lambda one: not of_exporter(one)),
            "exporter-router": (self.to_router, of_exporter),
        }[name]
