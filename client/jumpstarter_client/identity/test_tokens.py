from __future__ import annotations

import stat
from pathlib import Path

from jumpstarter_client.identity.client_config import replace_tokens


def test_only_the_tokens_of_a_file_change(tmp_path: Path) -> None:
    file = tmp_path / "ann.yaml"
    file.write_text("# mine\ntoken: old\nendpoint: lab:1\n")
    replace_tokens(file, "new")
    assert file.read_text() == "# mine\ntoken: new\nendpoint: lab:1\n"
    replace_tokens(file, "newer", "again")
    assert file.read_text() == "# mine\ntoken: newer\nendpoint: lab:1\nrefresh_token: again\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
