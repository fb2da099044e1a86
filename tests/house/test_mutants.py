"""`make mutants` finds what limits and cleans up, and says what no test notices."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tools.mutants import accepted, mutations
from tools.mutants.__main__ import main, product_modules

BOX = """
MAX_ITEMS = 3
MAX_NAME = 8


class Box:
    def __init__(self):
        self.items = []

    def put(self, item):
        if len(self.items) >= MAX_ITEMS:
            raise OverflowError
        self.items.append(item)

    def rename(self, name):
        if len(name) > MAX_NAME:
            raise ValueError
        self.name = name


def in_a_child(file):
    try:
        file.write("x")
    finally:
        file.close()


def never_run(process):
    process.kill()
"""
TEST_BOX = """
import subprocess, sys

import pytest

from box import Box


def test_put_is_limited():
    box = Box()
    for number in range(3):
        box.put(number)
    with pytest.raises(OverflowError):
        box.put(4)


def test_rename():
    Box().rename("a")


def test_a_child_closes():
    code = "import box\\nfile = open('/dev/null', 'w')\\nbox.in_a_child(file)\\nassert file.closed"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "box"
    package.mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\n'
    )
    (package / "__init__.py").write_text(BOX)
    (package / "test_box.py").write_text(TEST_BOX)
    return tmp_path


def test_survivors_are_named_and_the_tree_is_not_written_to(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert main(["box", "--root", str(checkout)]) == 1
    survived = [line for line in capsys.readouterr().out.splitlines() if line.startswith("SURVIVED")]
    assert sorted(survived) == [
        "SURVIVED (1 tests pass): box/__init__.py:16, Box.rename, len(name) > MAX_NAME -> False",
        "SURVIVED (no test runs this line): box/__init__.py:29, never_run, process.kill() -> pass",
    ]
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_tests_that_fail_as_they_are_stop_the_run(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "box/test_box.py").write_text("def test_box():\n    import box\n    assert False\n")
    assert main(["box", "--root", str(checkout), "--jobs", "1"]) == 2
    assert "must pass before anything is mutated" in capsys.readouterr().err


def test_a_folder_without_modules_is_an_error(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boxes", "--root", str(checkout)]) == 2
    assert "no module to mutate" in capsys.readouterr().err


def test_tests_and_generated_code_are_not_mutated(tmp_path: Path) -> None:
    for name in ("a.py", "test_a.py", "conftest.py", "a_pb2.py", "a_grpc.py"):
        (tmp_path / name).touch()
    assert [path.name for path in product_modules(tmp_path)] == ["a.py"]


@pytest.mark.parametrize(
    ("code", "mutants"),
    [
        ("with trio.move_on_after(x): f()", ['with trio.move_on_after(float("inf")): f()']),
        ("with fail_at(deadline=x): f()", ['with fail_at(deadline=float("inf")): f()']),
        ("s = trio.CancelScope(deadline=x)", ['s = trio.CancelScope(deadline=float("inf"))']),
        ("with trio.fail_after(math.inf): f()", []),
        (
            "with trio.move_on_after(x, shield=True): f()",
            [
                'with trio.move_on_after(float("inf"), shield=True): f()',
                "with trio.move_on_after(x, shield=False): f()",
            ],
        ),
        ("scope.deadline = x", ['scope.deadline = float("inf")']),
        ("scope.deadline += x", ['scope.deadline += float("inf")']),
        ("scope.deadline = math.inf", []),
        ("scope.shield = True", ["scope.shield = False"]),
        ("try: f()\nfinally:\n    g()\n    h()", ["try: f()\nfinally:\n    pass"]),
        (
            "try: f()\nexcept trio.Cancelled:\n    g()\n    raise",
            ["try: f()\nexcept trio.Cancelled:\n    pass\n    raise"],
        ),
        ("try: f()\nexcept ValueError:\n    g()\n    raise", []),
        ("try: f()\nexcept BaseException:\n    g()", []),
        ("a = CapacityLimiter(4)", ['a = CapacityLimiter(float("inf"))']),
        ("a = trio.Semaphore(4)", ["a = trio.Semaphore(1_000_000_000)"]),
        ("a, b = open_memory_channel[int](4)", ['a, b = open_memory_channel[int](float("inf"))']),
        ("a, b = open_memory_channel(math.inf)", []),
        ("f(timeout=CALL_SECONDS)", ["f(timeout=None)"]),
        ("f(grace_seconds=1.5)", ['f(grace_seconds=float("inf"))']),
        ("f(timeout=timeout)", []),
        ("f(timedelta(seconds=5))", []),
        ("scope.cancel()", ["pass"]),
        ("async def f():\n    await s.aclose()", ["async def f():\n    pass"]),
        ("os.killpg(a, b)", ["pass", "os.kill(a, b)"]),
        ("lock.release()", ["pass"]),
        ("x = [n for n in a if n != b]", ["x = [n for n in a if True]"]),
        (
            "x = {n for n in a if n for m in n if m}",
            ["x = {n for n in a if True for m in n if m}", "x = {n for n in a if n for m in n if True}"],
        ),
        ("x = [m for n in a if (m := f(n))]", []),
        ("variable.set(x)", []),
        ("x = s.close()", []),
    ],
)
def test_what_is_removed(code: str, mutants: list[str]) -> None:
    assert texts(code) == mutants


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("if {n > MAX_ITEMS}: raise E", "False"),
        ("if {n < MIN_ITEMS}: raise E", "False"),
        ("if not {n <= MAX_ITEMS}: raise E", "True"),
        ("if {n > MAX_ITEMS}: drop()", "False"),
        ("if {MAX_ITEMS < n}: drop()", "False"),
        ("if {n < self._max_items}: add()", "True"),
        ("while 1:\n    if a and {n < limit}: continue", "True False"),
        ("if not {n < limits.items}: drop()", "True"),
        ("while {n < MAX_ITEMS}: f()", "True"),
        ("while {n > most}: f()", "False"),
        ("if {LOW_LIMIT < n < LIMIT}: f()", "True"),
        ("x = {n <= LIMIT}", "True"),
        ("x = a and {now > seen + LIMIT}", "False"),
        ("x = [n for n in a if {n < LIMIT}]", "True"),
        ("assert n < LIMIT", ""),
        ("if n == LIMIT: f()", ""),
        ("if n < other: f()", ""),
    ],
)
def test_a_comparison_becomes_what_it_is_without_the_limit(code: str, values: str) -> None:
    before, _, rest = code.partition("{")
    after = rest.partition("}")[2]
    plain = code.replace("{", "").replace("}", "")
    assert texts(plain) == [f"{before}{value}{after}" for value in values.split()]


def test_a_comparison_of_three_loses_its_limited_end() -> None:
    assert texts("if 0 < n < LIMIT: f()") == ["if 0 < n: f()"]
    assert texts("if LIMIT > n >= 0: f()") == ["if n >= 0: f()"]
    assert texts("if not 0 < n < LIMIT: raise E") == ["if not 0 < n: raise E"]


def test_what_is_equal_in_one_function_is_told_apart() -> None:
    found = mutations.find(Path("a.py"), b"def f():\n    a.cancel()\n    # \xc3\xa9\n    a.cancel()\n")
    named = [(one.line, one.function, one.what) for one in found]
    assert named == [(2, "f", "a.cancel() -> pass"), (4, "f", "a.cancel() -> pass (number 2)")]


ENTRY = """
    [[accepted]]
    module = "box/__init__.py"
    function = "Box.rename"
    what = "len(name) > MAX_NAME -> False"
    why = "Names are short."
"""


def write_reasons(root: Path, text: str) -> None:
    path = root / accepted.FILE
    path.parent.mkdir(parents=True)
    path.write_text(dedent(text))


def test_a_reason_accepts_its_survivor_and_no_other(checkout: Path) -> None:
    write_reasons(checkout, ENTRY)
    [entry] = accepted.load(checkout)
    path = checkout / "box/__init__.py"
    found = mutations.find(path, path.read_bytes())
    matching = [one for one in found if entry.matches(checkout, one)]
    assert [one.line for one in matching] == [16]
    assert accepted.outdated([entry], checkout, {"box/__init__.py"}, found, matching) == []
    [noticed] = accepted.outdated([entry], checkout, {"box/__init__.py"}, found, [])
    assert "a test notices it now" in noticed
    [gone] = accepted.outdated([entry], checkout, {"box/__init__.py"}, [], [])
    assert "there is no such mutant any more" in gone
    assert accepted.outdated([entry], checkout, {"other.py"}, [], []) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('why = "Names are short."', 'why = " "', "none is empty"),
        ('why = "Names are short."', "", "has the texts"),
        ("box/__init__.py", "box/gone.py", "there is no module box/gone.py"),
        ("[[accepted]]", "[[accepted", "accepted.toml: "),
    ],
)
def test_a_wrong_reason_is_an_error(checkout: Path, old: str, new: str, complaint: str) -> None:
    write_reasons(checkout, ENTRY.replace(old, new))
    with pytest.raises(accepted.AcceptedError, match=complaint):
        accepted.load(checkout)


def texts(code: str) -> list[str]:
    source = code.encode()
    return [mutation.apply(source).decode() for mutation in mutations.find(Path("a.py"), source)]
