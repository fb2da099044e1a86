"""What the documents show works, and the runner that says so can tell."""

from __future__ import annotations

import os
import re
import select
import socket
from pathlib import Path

import pytest

from tests.house import docs
from tests.support.peers import ROOT

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/jumpstarter_*/**/*.md")
    for path in ROOT.glob(pattern)
    if docs.blocks(path.read_text())
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_document_is_true(document: Path, tmp_path: Path) -> None:
    assert docs.run(document, tmp_path) > 0


def test_the_readme_is_tested() -> None:
    assert ROOT / "README.md" in DOCUMENTS


def document(folder: Path, text: str) -> Path:
    path = folder / "doc.md"
    path.write_text(text)
    return path


def test_unmarked_blocks_do_not_run(tmp_path: Path) -> None:
    assert docs.run(document(tmp_path, "```console\n$ false\n```\n"), tmp_path) == 0


def test_blocks_share_a_home_and_files(tmp_path: Path) -> None:
    text = (
        "<!-- test file=a/name.txt -->\n```text\nrpi4\n```\n"
        "<!-- test -->\n```console\n$ export X=1\n$ echo $X $(cat ~/a/name.txt)\n1 rpi4\n```\n"
        "<!-- test -->\n```python\nassert open('a/name.txt').read() == 'rpi4\\n'\n```\n"
    )
    assert docs.run(document(tmp_path, text), tmp_path) == 3


def test_blocks_with_another_mark_are_one_bash_for_a_test_of_their_own(tmp_path: Path) -> None:
    page = document(
        tmp_path,
        "<!-- moved file=name -->\n```text\nrpi4\n```\n"
        "<!-- test -->\n```console\n$ false\n```\n"
        "<!-- moved -->\n```console\n$ sleep 600 & X=$(cat name)\n```\n"
        "<!-- moved -->\n```console\n$ kill %1; echo $X $Y\nrpi4 y\n```\n",
    )
    environment = {"PATH": os.environ["PATH"], "Y": "y"}
    assert docs.run_as_one(page, tmp_path, "moved", environment, ["test $X = rpi4"]) == 3
    with pytest.raises(docs.DocumentError, match=r"(?s)doc.md: `kill.*the document shows"):
        docs.run_as_one(page, tmp_path, "moved", environment | {"Y": "n"})
    with pytest.raises(docs.DocumentError, match=r"(?s)doc.md: .*exited with 3"):
        docs.run_as_one(page, tmp_path, "moved", environment, ["exit 3"])


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("```console\n$ false\n```", "exited with 1"),
        ("```console\n$ echo one\ntwo\n```", "the document shows"),
        ("```python\nraise SystemExit(3)\n```", "exited with 3"),
        ("```yaml\na: 1\n```", "file=NAME"),
        ("```console\nno prompt\n```", "starts with"),
    ],
)
def test_a_wrong_block_is_found(tmp_path: Path, body: str, complaint: str) -> None:
    with pytest.raises(docs.DocumentError, match=f"(?s)doc.md:1:.*{complaint}"):
        docs.run(document(tmp_path, f"<!-- test -->\n{body}\n"), tmp_path)


def test_background_work_of_a_block_ends_with_it(tmp_path: Path) -> None:
    text = "<!-- test -->\n```console\n$ sleep 600 & echo $! > pid\n```\n"
    docs.run(document(tmp_path, text), tmp_path)
    try:
        process = os.pidfd_open(int((tmp_path / "pid").read_text()))
    except ProcessLookupError:
        return
    # Readable once it has ended, also while nobody has collected it.
    ended, _, _ = select.select([process], [], [], 10)
    os.close(process)
    assert ended


def test_what_hangs_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "TIMEOUT", 5.0)
    (tmp_path / "hang.py").write_text(
        "import time\ndef waits_for_nobody(): time.sleep(600)\nwaits_for_nobody()\n"
    )
    text = "<!-- test -->\n```console\n$ python -S hang.py\n```\n"
    with pytest.raises(docs.DocumentError, match=r"(?s)did not end within 5 s:.*in waits_for_nobody"):
        docs.run(document(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("a...c\n", "a b\nb c\n\n", True),
        ("a\n", "a\nb\n", False),
        ("1.5 (x)\n", "1.5 (x)\n", True),
        ("1.5\n", "1x5\n", False),
    ],
)
def test_shown_output_matches_with_gaps(shown: str, output: str, *, same: bool) -> None:
    assert docs.matches(shown, output) is same


def test_a_port_that_a_document_names_is_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = docs.with_free_ports(
            f"$ echo 127.0.0.1:{port} 127.0.0.1:28082\n127.0.0.1:{port} 127.0.0.1:28082"
        )
    found = re.findall(r"127\.0\.0\.1:(\d+)", other)
    assert found[:2] == found[2:]
    assert len({*found, str(port), "28082"}) == 4
    assert docs.with_free_ports("127.0.0.1:0 and 10.0.0.1:8082") == "127.0.0.1:0 and 10.0.0.1:8082"
