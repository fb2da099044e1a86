"""Find the statements and expressions that limit, leave out or clean up, and the text that each is replaced with.

Source outside of the replaced text stays as it is, so line numbers stay the same up to that place.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

INFINITE = 'float("inf")'
HUGE = "1_000_000_000"

DEADLINE_SCOPES = {"move_on_after", "fail_after", "move_on_at", "fail_at"}
BOUNDED = {"CapacityLimiter": INFINITE, "open_memory_channel": INFINITE, "Semaphore": HUGE}
ENDING_METHODS = {"cancel", "set", "close", "aclose", "kill", "terminate", "release"}
ENDING_FUNCTIONS = {"killpg", "aclose_forcefully"}
CLEAN_UP_EXCEPTIONS = {"Cancelled", "BaseException", "Exception", "KeyboardInterrupt"}
LIMIT_KEYWORD = re.compile(r"(?:.*_)?(timeout|seconds|deadline|maxlen)")
# Their `seconds=` is a value, not a limit.
VALUE_TYPES = {"timedelta", "Duration", "Timestamp"}
CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]{2,}")
LIMIT_NAME = re.compile(r"_*(max|most|limit|limits)(_.*)?")
TEXT_LENGTH = 90


@dataclass(frozen=True)
class Mutation:
    """One replacement in one module. `what` names it without its position, so that a written reason survives edits."""

    path: Path
    line: int
    function: str
    what: str
    start: int
    end: int
    replacement: str
    lines: range
    """The lines of which at least one runs where the mutation can make a difference."""

    def apply(self, source: bytes) -> bytes:
        """Return the module's source with this mutation in it."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]


class Place(Enum):
    """Where a comparison stands, which decides what it is without its limit."""

    OTHER = auto()
    LEAVING = auto()
    RAISING = auto()
    ASSERT = auto()


def find(path: Path, source: bytes) -> list[Mutation]:
    """Return every mutation of a module, in the order of its lines; each compiles."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source, str(path)))
    found = sorted(_numbered(finder.found), key=lambda mutation: (mutation.line, mutation.start))
    for mutation in found:
        compile(mutation.apply(source), f"{path}:{mutation.line}", "exec", dont_inherit=True)
    return found


def _numbered(found: list[Mutation]) -> Iterator[Mutation]:
    """Drop what was found twice, and tell equal texts in one function apart."""
    unique = {(m.start, m.end, m.replacement): m for m in found}
    times: Counter[tuple[str, str]] = Counter()
    for mutation in sorted(unique.values(), key=lambda m: m.start):
        key = (mutation.function, mutation.what)
        times[key] += 1
        if times[key] == 1:
            yield mutation
        else:
            yield Mutation(**{**vars(mutation), "what": f"{mutation.what} (number {times[key]})"})


class _Finder(ast.NodeVisitor):
    def __init__(self, path: Path, source: bytes) -> None:
        self.found: list[Mutation] = []
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._names: list[str] = []
        self._place = Place.OTHER
        self._is_negated = False

    # Where we are.

    def _visit_scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_scope  # noqa: N815

    @contextmanager
    def _at(self, place: Place, *, is_negated: bool = False) -> Iterator[None]:
        before = self._place, self._is_negated
        self._place, self._is_negated = place, is_negated
        try:
            yield
        finally:
            self._place, self._is_negated = before

    def visit_If(self, node: ast.If) -> None:
        last = node.body[-1]
        leaves = isinstance(last, ast.Return | ast.Continue | ast.Break)
        place = Place.RAISING if isinstance(last, ast.Raise) else Place.LEAVING if leaves else Place.OTHER
        with self._at(place):
            self.visit(node.test)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_Assert(self, node: ast.Assert) -> None:
        with self._at(Place.ASSERT):
            self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        with self._at(self._place, is_negated=self._is_negated != isinstance(node.op, ast.Not)):
            self.generic_visit(node)

    # What is found.

    def visit_Compare(self, node: ast.Compare) -> None:
        if self._place is not Place.ASSERT:
            for value in self._without_limit(node):
                self._replace(node, value)
        with self._at(Place.OTHER):
            self.generic_visit(node)

    def _without_limit(self, node: ast.Compare) -> list[str]:
        """Return what the comparison becomes if its limit is infinite; both values where that is not clear."""
        if not all(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops):
            return []
        limited = [_is_limit(operand) for operand in [node.left, *node.comparators]]
        if not any(limited):
            return []
        if self._place is Place.RAISING and not self._is_negated:
            return ["False"]
        if len(node.ops) > 1:
            return [self._without_ends(node, limited)]
        if self._place is Place.RAISING:
            return ["True"]
        limit_is_left = limited[0] and not limited[1]
        is_over = isinstance(node.ops[0], ast.Gt | ast.GtE) != limit_is_left
        if is_over:
            return ["False"]
        # `if n < LIMIT: return` may be what goes on within the limit, and what refuses too little.
        return ["True", "False"] if self._place is Place.LEAVING and not self._is_negated else ["True"]

    def _without_ends(self, node: ast.Compare, limited: list[bool]) -> str:
        """Return `0 < n` of `0 < n < LIMIT`; what is limited at both ends holds always."""
        operands = [node.left, *node.comparators]
        kept = operands[limited[0] : len(operands) - limited[-1]]
        if len(kept) < 2:
            return "True"
        return self._source[self._span(kept[0])[0] : self._span(kept[-1])[1]].decode()

    def visit_Call(self, node: ast.Call) -> None:
        name = _leaf(node.func)
        keywords = {keyword.arg: keyword for keyword in node.keywords if keyword.arg}
        if name in DEADLINE_SCOPES:
            self._unlimit(node, node.args[0] if node.args else None, *keywords.values())
        elif name == "CancelScope":
            self._unlimit(node, None, *keywords.values())
        elif name in BOUNDED and node.args and not _is_infinite(node.args[0]):
            self._replace(node.args[0], BOUNDED[name], shown=node)
        elif name not in VALUE_TYPES:
            for word, keyword in keywords.items():
                match = LIMIT_KEYWORD.fullmatch(word)
                if match and _is_fixed(keyword.value):
                    nothing = "None" if match[1] in {"timeout", "maxlen"} else INFINITE
                    self._replace(keyword.value, nothing, shown=keyword)
        shield = keywords.get("shield")
        if shield and isinstance(shield.value, ast.Constant) and shield.value.value is True:
            self._replace(shield.value, "False", shown=node, note="shield=False")
        with self._at(Place.OTHER):
            self.generic_visit(node)

    def _unlimit(self, call: ast.Call, first: ast.expr | None, *keywords: ast.keyword) -> None:
        named = {"seconds", "deadline", "relative_deadline"}
        values = [first, *(keyword.value for keyword in keywords if keyword.arg in named)]
        for value in values:
            if value is not None and not _is_infinite(value):
                self._replace(value, INFINITE, shown=call, note="no limit")

    def visit_Assign(self, node: ast.Assign) -> None:
        attributes = {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
        if "deadline" in attributes and not _is_infinite(node.value):
            self._replace(node.value, INFINITE, shown=node)
        if "shield" in attributes and isinstance(node.value, ast.Constant) and node.value.value is True:
            self._replace(node.value, "False", shown=node)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Attribute) and node.target.attr == "deadline":
            self._replace(node.value, INFINITE, shown=node)
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        if node.finalbody and not isinstance(node.finalbody[0], ast.Pass):
            self._replace_body(node.finalbody, "pass", "finally")
        self.generic_visit(node)

    visit_TryStar = visit_Try  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        last = node.body[-1]
        if len(node.body) > 1 and isinstance(last, ast.Raise) and _raises_again(last, node.name):
            names = {_leaf(one) for one in ast.walk(node.type)} if node.type else CLEAN_UP_EXCEPTIONS
            if names & CLEAN_UP_EXCEPTIONS:
                self._replace_body(node.body[:-1], "pass", "except")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            if not any(
                isinstance(part, ast.NamedExpr) for part in ast.walk(test)
            ):  # else a name would be missing
                self._replace(test, "True")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            is_method = isinstance(call.func, ast.Attribute) and not call.args and not call.keywords
            if (is_method and _leaf(call.func) in ENDING_METHODS) or _leaf(call.func) in ENDING_FUNCTIONS:
                self._replace(node, "pass")
            if ast.unparse(call.func) == "os.killpg":
                self._replace(call.func, "os.kill", shown=call, note="one process only")
        self.generic_visit(node)

    # How it is written down.

    def _replace(
        self, node: ast.expr | ast.stmt, new: str, *, shown: ast.AST | None = None, note: str = ""
    ) -> None:
        shown = shown or node
        start, end = self._span(node)
        what = f"{self._text(*self._span(shown))} -> {note or new}"
        first, last = (shown, shown) if isinstance(shown, ast.expr | ast.stmt) else (node, node)
        self._add(what, (start, end), new, first, last)

    def _replace_body(self, body: list[ast.stmt], new: str, title: str) -> None:
        start, end = self._span(body[0])[0], self._span(body[-1])[1]
        what = f"{title}: {self._text(start, end)} -> {new}"
        self._add(what, (start, end), new, body[0], body[-1])

    def _add(self, what: str, span: tuple[int, int], new: str, *shown: ast.expr | ast.stmt) -> None:
        line = shown[0].lineno
        lines = range(line, (shown[-1].end_lineno or line) + 1)
        function = ".".join(self._names) or "(module)"
        self.found.append(Mutation(self._path, line, function, what, *span, new, lines))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, start: int, end: int) -> str:
        text = " ".join(self._source[start:end].decode().split())
        return text if len(text) <= TEXT_LENGTH else text[: TEXT_LENGTH - 3] + "..."


def _leaf(node: ast.AST) -> str:
    """Return the last part of a dotted name, as `move_on_after` of `trio.move_on_after`."""
    if isinstance(node, ast.Subscript):
        return _leaf(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_limit(node: ast.expr) -> bool:
    names = [name for part in ast.walk(node) if (name := _leaf(part))]
    return any(CONSTANT.fullmatch(name) or LIMIT_NAME.fullmatch(name) for name in names)


def _is_infinite(node: ast.expr) -> bool:
    return ast.unparse(node) in {"math.inf", "inf", "float('inf')"}


def _is_fixed(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return isinstance(node, ast.Name | ast.Attribute) and CONSTANT.fullmatch(_leaf(node)) is not None


def _raises_again(node: ast.Raise, name: str | None) -> bool:
    return node.exc is None or (name is not None and _leaf(node.exc) == name)
