"""How `jumpstarter-exporter run` begins."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import trio

from jumpstarter_exporter.cli import run


def test_what_there_is_at_the_start_is_never_looked_through_for_garbage_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("export: {power: {type: power.MockPower}}\n")
    frozen = []

    def begin(_: object) -> int:
        frozen.append(gc.get_freeze_count())
        return 0

    monkeypatch.setattr(trio, "run", begin)
    monkeypatch.setattr(run, "set_up_logging", lambda *_: None)
    before = gc.get_freeze_count()
    try:
        run.run_daemon(
            config=str(file),
            board=None,
            socket=None,
            listen=None,
            tls_cert=None,
            tls_key=None,
            insecure=False,
            passphrase_file=None,
            log_level="info",
        )
    finally:
        gc.unfreeze()  # these tests go on
    assert frozen[0] > before
