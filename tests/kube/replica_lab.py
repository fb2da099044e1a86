"""A lab with several controllers behind one address, on a real API server, and a router that is none of theirs."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jumpstarter_controller.process.data_folder import DataFolder

from tests.e2e.lab import LIMIT
from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.kube.server.cluster import Cluster
from tests.kube.service import service
from tests.kube.test_lease import KubeLab
from tests.support.administration import administer

__all__ = ["ReplicaLab", "readiness", "two_replicas"]


def readiness(port: int) -> str:
    """What /readyz says there; empty before anything listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


@dataclass
class Replica:
    """A controller, which may have ended."""

    data: Path
    port: int
    probes: int
    daemon: Daemon

    def ready(self) -> str:
        """What /readyz says; empty before it listens."""
        return readiness(self.probes)

    @property
    def lives(self) -> bool:
        return self.daemon.process.poll() is None

    def kill(self) -> None:
        """`kill -9`."""
        self.daemon.process.kill()
        self.daemon.process.wait()

    def stop(self) -> None:
        """As it should end."""
        self.daemon.process.send_signal(signal.SIGTERM)
        assert self.daemon.process.wait(30) == 0


PROGRAM = """
import sys
from jumpstarter_client import env

with env() as board:
    board.rpi4.power.off()
    open(sys.argv[1], "w").close()
    with open(sys.argv[2]) as told:
        told.read()
    board.rpi4.power.on()
"""
"""Of a user: one connection to the board, which has to last until a file is there."""


class Session:
    """A program in a shell, with a connection to a board through the router."""

    def __init__(self, lab: ReplicaLab, lease: str, client: Path) -> None:
        self._lab = lab
        ready, self._go = lab.home / "ready", lab.home / "go"
        os.mkfifo(self._go)
        command = (sys.executable, "-c", PROGRAM, ready, self._go)
        self._shell = lab.start("shell", "--lease", lease, "--client", client, "--", *command)
        lab.until(lambda: ready.exists() or self._shell.poll() is not None)
        assert self._shell.poll() is None, self._shell.communicate()
        self._ended = self._streams_ended()

    def _streams_ended(self) -> int:
        return self._lab.router.log.read_text().count("stream ended")

    def goes_on(self) -> None:
        """It is there, on the same connection; it ends."""
        assert self._shell.poll() is None
        assert self._streams_ended() == self._ended
        self._go.write_text("go")
        out, err = self._shell.communicate(timeout=LIMIT)
        assert self._shell.returncode == 0, (out, err)
        assert "Traceback" not in err


class ReplicaLab(KubeLab):
    """`replicas` by number. Commands of `admin` go to the first that lives."""

    def __init__(self, home: Path, stack: ExitStack, *, cluster: Cluster) -> None:
        super().__init__(home, stack, cluster=cluster)
        self.service = stack.enter_context(service(self.port))
        self.replicas: list[Replica] = []

    def start_replica(self, number: int | None = None, *, wait: bool = True) -> Replica:
        """One more, or one again."""
        if number is None:
            number = len(self.replicas)
            ports = [exporters.free_port() for _ in range(2)]
        else:
            ports = [self.replicas[number].port, self.replicas[number].probes]
        data = self.home / f"data-{number}"
        command: list[str | Path] = [exporters.scripts() / "jumpstarter-controller", "run", "--data", data]
        command += ["--listen", f"127.0.0.1:{ports[0]}", "--endpoint", f"127.0.0.1:{self.port}"]
        command += ["--store", "kubernetes", "--kubeconfig", str(self.cluster.kubeconfig)]
        command += ["--namespace", self.namespace, "--metrics-listen", f"127.0.0.1:{ports[1]}"]
        command += ["--router", f"127.0.0.1:{self.router_port}", "--log-level", "info"]
        daemon = self._controllers.enter_context(exporters.running(command, self._folder()))
        replica = Replica(data, *ports, daemon)
        self.replicas[number:] = [replica, *self.replicas[number + 1 :]]
        if wait:
            assert daemon.first_line() == f"Listening on 127.0.0.1:{self.port}"
            self.until(lambda: replica.ready() == "ok\n")
            self.serve_by(*range(len(self.replicas)))
        self.choose()
        return replica

    def serve_by(self, *numbers: int) -> None:
        """Connections go to these."""
        self.service.backends = [self.replicas[number].port for number in numbers]

    def choose(self) -> None:
        """Administrate through the first that lives."""
        living = next((one for one in self.replicas if one.lives), None)
        if living is not None:
            self.data, self.controller = living.data, living.daemon

    def start_router(self) -> None:
        """The one that all controllers know."""
        file = self.home / "router.pem"
        done = administer(self.data, "router", "create", f"127.0.0.1:{self.router_port}", "--save", file)
        assert done.returncode == 0, done.stderr
        command = [exporters.scripts() / "jumpstarter-router", "--key", file, "--log-level", "info"]
        self.router = self.daemon(*command, "--listen", f"127.0.0.1:{self.router_port}")
        self.router.first_line()

    def identity(self, number: int) -> str:
        """What a controller is called among the others."""
        return DataFolder(self.replicas[number].data).replica()

    def leads(self) -> int | None:
        """The number of the one that leads, as the record says."""
        holder = self.leader().get("holderIdentity", "")
        names = [self.identity(number) for number in range(len(self.replicas))]
        return names.index(holder) if holder in names else None

    def leader(self) -> dict[str, Any]:
        """The record of who leads."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "leases.coordination.k8s.io", "jumpstarter-controller", "-o", "json")
        )["spec"]
        return found


@contextmanager
def two_replicas(home: Path, cluster: Cluster) -> Iterator[ReplicaLab]:
    """Two controllers, of which the first leads, and a router."""
    with ExitStack() as stack:
        lab = ReplicaLab(home, stack, cluster=cluster)
        lab.start_replica()
        lab.start_router()
        lab.start_replica()
        assert lab.leads() == 0
        yield lab
