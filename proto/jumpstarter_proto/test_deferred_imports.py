"""Modules that a command imports by the way are loaded when they are used, and are then like any other."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

from jumpstarter_proto.deferred_imports import DEFERRED_MODULES


def run(program: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    start = "from jumpstarter_proto import deferred_imports\n"
    if path is not None:
        start += f"import sys; sys.path.insert(0, {str(path)!r})\n"
        start += "deferred_imports.DEFERRED_MODULES |= {'slow'}\n"
    command = [sys.executable, "-c", start + "deferred_imports.defer_imports()\n" + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def output(program: str, *, path: Path | None = None) -> list[str]:
    done = run(program, path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def module(folder: Path, text: str) -> Path:
    (folder / "slow.py").write_text(textwrap.dedent(text))
    return folder


def test_a_module_is_loaded_with_its_first_attribute_and_not_with_its_second_import(tmp_path: Path) -> None:
    folder = module(tmp_path, "print('loaded')\nvalue = 1\n")
    program = (
        "import slow\nimport slow as again\nprint('imported')\nprint(again.value)\nprint(type(slow).__name__)"
    )
    assert output(program, path=folder) == ["imported", "loaded", "1", "module"]
    assert output("from slow import value\nprint(value)", path=folder) == ["loaded", "1"]


def test_threads_wait_until_another_has_loaded_it(tmp_path: Path) -> None:
    # Nothing tells that a thread waits for a lock: those that would not wait have the time to look too early.
    folder = module(tmp_path, "import time\nprint('loaded')\ntime.sleep(0.2)\nvalue = 1\n")
    program = """
        import slow, threading
        all_there, seen = threading.Barrier(8), []
        def look():
            all_there.wait()
            seen.append(slow.value)
        threads = [threading.Thread(target=look) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(seen == [1] * 8)
    """
    assert output(program, path=folder) == ["loaded", "True"]


def test_no_thread_uses_half_of_a_module_that_another_loads(tmp_path: Path) -> None:
    """As `traceback`, whose first functions need the classes at its end: two threads may fail at the same time."""
    text = """
        import __main__
        def early():
            return late()
        __main__.begun.set()
        __main__.answered.wait(0.2)
        def late():
            return 1
    """
    program = """
        import slow, threading
        begun, answered, seen = threading.Event(), threading.Event(), []
        def look():
            begun.wait()
            try:
                seen.append(slow.early())
            except NameError as error:
                seen.append(error)
            answered.set()
        thread = threading.Thread(target=look)
        thread.start()
        seen.append(slow.early())
        thread.join()
        print(seen == [1, 1] or seen)
    """
    assert output(program, path=module(tmp_path, text)) == ["True"]


def test_a_module_that_cannot_be_loaded_says_so_each_time(tmp_path: Path) -> None:
    folder = module(tmp_path, "raise ImportError('no such library')")
    program = """
        import slow
        for _ in range(2):
            try:
                slow.value
            except ImportError as error:
                print(str(error).replace(" ", "-"))
    """
    assert output(program, path=folder) == ["no-such-library"] * 2


def test_what_a_module_has_not_is_an_attribute_error(tmp_path: Path) -> None:
    folder = module(tmp_path, "import slow\nhas = hasattr(slow, 'late')\nlate = 1\n")
    program = "import slow\nprint(hasattr(slow, 'nothing'), slow.has, slow.late)"
    assert output(program, path=folder) == ["False", "False", "1"]


def test_what_msgspec_needs_of_typing_extensions_is_taken_from_typing() -> None:
    program = """
        import sys, typing
        import msgspec
        class Point(msgspec.Struct):
            x: typing.Annotated[int, msgspec.Meta(ge=0)]
        class Extra(typing.TypedDict):
            y: typing.NotRequired[int]
        print(msgspec.json.decode(b'{"x": 1}', type=Point).x, msgspec.convert({}, Extra))
        try:
            msgspec.json.decode(b'{"x": -1}', type=Point)
        except msgspec.ValidationError:
            print("refused")
        import typing_extensions
        print(type(typing_extensions).__name__)
        print(typing_extensions.Required is typing.Required, typing_extensions.TypeIs.__name__ != "")
        print(type(typing_extensions).__name__)
    """
    assert output(program) == ["1", "{}", "refused", "_DeferredModule", "True", "True", "module"]


def test_every_module_can_be_used() -> None:
    """As the standard library's and others' own import would have it."""
    names = sorted(DEFERRED_MODULES)
    program = f"""
        import importlib, sys
        def attributes(name):
            module = importlib.import_module(name)
            getattr(module, "nothing", None)
            return {{name for name in vars(module) if not name.startswith("__")}}
        deferred = {{name: attributes(name) for name in {names}}}
        sys.meta_path = [each for each in sys.meta_path if type(each).__name__ != "_DeferringFinder"]
        for name in {names}:
            importlib.reload(sys.modules[name])
            print(name if attributes(name) != deferred[name] else "same")
    """
    assert output(program) == ["same"] * len(names)


def test_a_function_that_is_imported_by_name_loads_the_module_when_it_is_called() -> None:
    program = """
        import sys, hpack
        table = sys.modules["hpack.huffman_table"]
        plain = hpack.Encoder().encode([("a", "b")], huffman=False)
        print(hpack.Decoder().decode(plain), type(table).__name__)
        compressed = hpack.Encoder().encode([("custom", "www.example.com")], huffman=True)
        print(hpack.Decoder().decode(compressed) == [("custom", "www.example.com")], type(table).__name__)
        try:
            hpack.Decoder().decode(b"\\x40\\x84\\xff\\xff\\xff\\xff\\x01a")
        except hpack.HPACKDecodingError as error:
            print(type(error).__name__)
    """
    assert output(program) == ["[('a',", "'b')]", "_DeferredModule", "True", "module", "HPACKDecodingError"]


def test_a_part_of_a_package_has_its_package_first(tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "__init__.py").write_text("print('package')\nfrom slow.part import value\n")
    (folder / "part.py").write_text("print('part')\nfrom . import other\nvalue = other.value\n")
    (folder / "other.py").write_text("print('other')\nvalue = 1\n")
    (folder / "last.py").write_text("print('last')\n")
    whole = ["package", "part", "other"]
    program = "import slow, sys\nprint(type(slow).__name__)\nfrom slow import value\nprint(value)"
    assert output(program, path=tmp_path) == ["_DeferredModule", *whole, "1"]
    for name in ("part", "other", "last"):
        program = f"""
            import slow, slow.{name} as it, sys, importlib
            assert it is sys.modules["slow.{name}"] is slow.{name}
            assert it.__spec__.origin == it.__file__
            importlib.import_module("slow.{name}")
            print(type(slow).__name__, slow.value)
        """
        last = ["last"] if name == "last" else []
        assert output(program, path=tmp_path) == [*whole, *last, "module", "1"]


def test_names_that_are_not_ascii_are_looked_up_by_trio() -> None:
    program = """
        import trio, trio._socket, sys
        print(trio._socket.encode_hostname("lab").decode(), type(sys.modules["idna"]).__name__)
        print(trio._socket.encode_hostname("M\u00fcller.example").decode(), type(sys.modules["idna"]).__name__)
    """
    assert output(program) == ["lab", "_DeferredModule", "xn--mller-kva.example", "module"]


def test_each_of_them_is_there() -> None:
    assert [name for name in DEFERRED_MODULES if importlib.util.find_spec(name) is None] == []
