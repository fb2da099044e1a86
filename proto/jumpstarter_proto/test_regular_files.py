"""Nobody waits for what is no file."""

from __future__ import annotations

import errno
import os
import pty
from collections.abc import Callable
from pathlib import Path

import pytest

from jumpstarter_proto.regular_files import open_input, open_regular


@pytest.mark.parametrize("opened", [open_regular, open_input])
def test_a_pipe_with_a_name_a_folder_and_a_terminal_are_errors_at_once(
    tmp_path: Path, opened: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    keep, terminal = pty.openpty()
    try:
        for path in (tmp_path / "pipe", Path(os.ttyname(terminal)), Path("/dev/zero")):
            with pytest.raises(OSError, match="not a file") as raised:
                opened(path)
            assert raised.value.errno == errno.EINVAL
        with pytest.raises(IsADirectoryError):
            opened(tmp_path)
    finally:
        os.close(keep)
        os.close(terminal)


def test_the_pipe_of_a_shell_is_read_to_its_end_where_a_user_names_it() -> None:
    reading, writing = os.pipe()
    try:
        with open_input(Path(f"/dev/fd/{reading}")) as file:
            os.write(writing, b"export:")
            os.close(writing)
            assert file.read() == b"export:"
        with pytest.raises(OSError, match="not a file"):
            open_regular(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
