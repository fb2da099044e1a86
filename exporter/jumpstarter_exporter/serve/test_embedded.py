"""An exporter inside of another program."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import connect_unix, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_exporter.config import ConfigError
from jumpstarter_exporter.serve.embedded import open_exporter


async def names(stream: object) -> list[str]:
    async with open_channel(stream) as channel:  # type: ignore[arg-type]
        report = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
    return [instance.labels.get("jumpstarter.dev/name", "") for instance in report.reports]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "lab.yaml"
    file.write_text("export: {power: {type: power.MockPower}}")
    return file


async def test_any_number_of_connections(config: Path) -> None:
    async with open_exporter(config) as exporter:
        for _ in range(2):
            assert await names(await exporter.connect()) == ["", "power"]


async def test_a_private_socket_for_other_processes(config: Path) -> None:
    async with open_exporter(config) as exporter:
        async with exporter.listen() as path:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
            assert await names(await connect_unix(path)) == ["", "power"]
        assert not os.path.exists(os.path.dirname(path))


async def test_what_is_wrong_is_raised_as_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        async with open_exporter(tmp_path / "none.yaml"):
            pass
