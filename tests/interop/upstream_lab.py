"""A lab whose controller and router behave as 0.9.0's: our exporters join it, and 0.9.0's own `jmp` leases them."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.interop import lab as interop
from tests.interop.raw import credential_of
from tests.support.upstream_controller import UpstreamController


class UpstreamLab(interop.Lab):
    """Its controller's seconds pass `RATE` times as fast, as those of its exporters are meant to."""

    RATE = 5.0

    def __init__(self, home: Path, stack: ExitStack, **how: Any) -> None:
        super().__init__(home, stack, **how)
        self.upstream_controller = UpstreamController(self.port, self.RATE)

    def start_controller(self, *options: str) -> Any:  # type: ignore[override]
        """It is no process."""
        assert not options
        self._controllers.enter_context(self.upstream_controller.serving())

    @cached_property
    def _watcher(self) -> Any:
        return credential_of(self.client("observer"))

    def admin(self, *words: str | Path, fails: bool = False) -> str:
        """Only `client|exporter create NAME --save FILE`, for `client` and `exporter`; others raise ValueError."""
        kind, verb, name, *options = map(str, words)
        given = dict(zip(options[::2], options[1::2], strict=True))
        file = given.pop("--save")
        label = given.pop("--label", "")
        if (verb, given, fails) != ("create", {}, False):
            raise ValueError(f"nobody administrates it: {words}")
        labels = dict([label.split("=")]) if label else {}
        token = self.upstream_controller.create(kind.capitalize(), name, labels)
        document = {
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": f"{kind.capitalize()}Config",
            "metadata": {"namespace": self.namespace, "name": name},
            "endpoint": self.upstream_controller.endpoint,
            "tls": {"ca": base64.b64encode(self.upstream_controller.ca).decode(), "insecure": False},
            "token": token,
            "grpcOptions": {},
        }
        if kind == "client":
            document |= {"drivers": {"allow": ["jumpstarter_driver_*"], "unsafe": False}}
        text = yaml.safe_dump(document, sort_keys=False)
        Path(file).write_text(text if kind == "client" else text + "export: {}\n")
        return ""
