from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_proto.documents import ConfigError, Document, check_value


def read(folder: Path, text: str) -> Document:
    file = folder / "a.yaml"
    file.write_text(text)
    return Document(file, "steps")


def test_an_error_has_the_line_and_column_of_its_key_or_its_item(tmp_path: Path) -> None:
    document = read(tmp_path, "steps:\n  - power.on:\n  -   serial: {send: 5}\n")
    for path, line, column in [
        (("steps",), 1, 1),
        (("steps", 0), 2, 5),
        (("steps", 1, "serial", "send"), 3, 16),
        (("steps", 1, "serial", "nothing", 3), 3, 7),
        (("what is not there",), 1, 1),
    ]:
        error = document.error(path, "no")
        assert (error.line, error.column) == (line, column)
        assert str(error).startswith(f"{tmp_path / 'a.yaml'}:{line}:{column}: ")


def test_yaml_that_is_none_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml:2:5: this is not YAML"):
        read(tmp_path, "a: 1\nb: c: d\n")
    with pytest.raises(ConfigError, match=r"needs at least `steps:`"):
        read(tmp_path, "")


def test_a_value_of_another_type_says_which_and_where(tmp_path: Path) -> None:
    document = read(tmp_path, "steps: [1, two]\n")
    with pytest.raises(ConfigError, match=r":1:12: steps\[1\]: Expected `int`, got `str`"):
        check_value(document, document.data["steps"], list[int], ("steps",))
