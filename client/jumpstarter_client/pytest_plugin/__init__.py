"""Boards in pytest. The plugin imports and connects nothing before a test uses it.

Fixtures: `jumpstarter` (blocking, for the session), `jumpstarter_async` (for tests of pytest-trio) and
`jumpstarter_host`, the address that both use. The marker `jumpstarter(requires=[...], labels={...})` skips a test
if the hardware does not meet the requirements. The report of a failed test has the output of the consoles.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from jumpstarter_client.base import DriverClient
    from jumpstarter_client.lease.board import ReadyBoard
    from jumpstarter_client.node import Allowed
    from jumpstarter_client.pytest_plugin.consoles import ConsoleTails

__all__ = ["JumpstarterTest"]

_CONSOLES: pytest.StashKey[ConsoleTails | None] = pytest.StashKey()
_SINCE: pytest.StashKey[dict[str, int]] = pytest.StashKey()
_MESSAGES: pytest.StashKey[list[str]] = pytest.StashKey()
"""The messages about the lease of the session, such as its end."""
_ALLOWED: pytest.StashKey[Allowed] = pytest.StashKey()
"""The client classes that the configuration allows for a leased board."""
_MESSAGES_BEFORE: pytest.StashKey[int] = pytest.StashKey()
"""The number of messages when a test started."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this plugin."""
    group = parser.getgroup("jumpstarter", "boards")
    options = [
        ("exporter", "a socket, HOST:PORT, or a YAML file to start an exporter from for the session"),
        ("board", "one of the boards of a host that serves several"),
        ("selector", "labels of a board to lease from a controller"),
        ("lease", "a lease to use"),
        ("duration", "how long to lease a board, such as 2h; 30m if left out"),
    ]
    for name, text in options:
        group.addoption(f"--jumpstarter-{name}", metavar=name.upper(), help=text)
        parser.addini(f"jumpstarter_{name}", text)
    group.addoption(
        "--no-jumpstarter-consoles",
        action="store_true",
        help="do not read the consoles for the reports of failing tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker of this plugin."""
    config.addinivalue_line(
        "markers",
        "jumpstarter(requires=[], labels={}): interfaces and labels that the hardware must have, or it is skipped",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the requirements of marked tests before their other fixtures."""
    for item in items:
        if item.get_closest_marker("jumpstarter") is not None and isinstance(item, pytest.Function):
            item.fixturenames.insert(0, "_jumpstarter_requirements")


@contextmanager
def _explained() -> Iterator[None]:
    """Report errors for users as a message, without a traceback."""
    from jumpstarter_proto.errors import JumpstarterError

    try:
        yield
    except JumpstarterError as error:
        message = str(error)
        if getattr(error, "boards", None):
            message += "; for pytest, --jumpstarter-board NAME or JUMPSTARTER_BOARD"
        raise pytest.fail.Exception(message, pytrace=False) from None  # otherwise the error is printed twice


@contextmanager
def _progress_shown(config: pytest.Config, *, is_leased: bool) -> Iterator[None]:
    """Let the progress of a wait for a board through to the user, whose output pytest captures otherwise."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None or not is_leased:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield


@pytest.fixture(scope="session")
def jumpstarter_host(pytestconfig: pytest.Config) -> Iterator[str]:
    """The address of the exporter. An exporter that is started for the session has a private socket."""
    from jumpstarter_client.blocking import PortalThread
    from jumpstarter_client.connections.connect import open_host
    from jumpstarter_client.pytest_plugin.boards import target

    names = ("exporter", "selector", "lease", "duration")
    exporter, selector, lease, duration = (_option(pytestconfig, name) for name in names)
    messages = pytestconfig.stash.setdefault(_MESSAGES, [])

    def leased(board: ReadyBoard) -> None:
        pytestconfig.stash[_ALLOWED] = board.lease.config.allowed()

    with ExitStack() as stack:
        with _explained():
            board = _option(pytestconfig, "board")
            where = target(exporter, selector, lease, _workers(pytestconfig), duration, board=board)
            portal = stack.enter_context(PortalThread())
            opened = open_host(
                where.host,
                config=where.config,
                board=board,
                request=where.request,
                on_leased=leased,
                on_message=messages.append,
                on_lease_end=messages.append,
            )
            with _progress_shown(pytestconfig, is_leased=where.request is not None):
                address = stack.enter_context(portal.context(opened))
        yield address


@pytest.fixture(scope="session")
def jumpstarter(jumpstarter_host: str, pytestconfig: pytest.Config) -> Iterator[DriverClient]:
    """The devices: `jumpstarter.rpi4.power.on()`. With pytest-xdist each process has its own board."""
    from jumpstarter_client.connections.connect import connect
    from jumpstarter_client.pytest_plugin.boards import select_worker_board
    from jumpstarter_client.pytest_plugin.consoles import watch

    with ExitStack() as stack:
        with _explained():
            root = stack.enter_context(
                connect(
                    jumpstarter_host,
                    board=_option(pytestconfig, "board"),
                    allowed=pytestconfig.stash.get(_ALLOWED, None),
                )
            )
            if not (_option(pytestconfig, "selector") or _option(pytestconfig, "lease")):
                select_worker_board(root.node, *_workers(pytestconfig))
        if not pytestconfig.getoption("no_jumpstarter_consoles"):
            pytestconfig.stash[_CONSOLES] = stack.enter_context(root.portal.context(watch(root.node)))
        yield root
        pytestconfig.stash.setdefault(_CONSOLES, None)
        del pytestconfig.stash[_CONSOLES]


async def _async_root(
    jumpstarter_host: str, jumpstarter: DriverClient, pytestconfig: pytest.Config
) -> AsyncIterator[DriverClient]:
    """The devices, for trio: `await jumpstarter_async.rpi4.power.on.aio()`."""
    # `jumpstarter` is used as well, because it reads the consoles for the reports.
    from jumpstarter_client.connections.connect import connect_async
    from jumpstarter_client.pytest_plugin.boards import select_worker_board

    allowed = pytestconfig.stash.get(_ALLOWED, None)
    board = _option(pytestconfig, "board")
    async with connect_async(jumpstarter_host, board=board, allowed=allowed) as root:
        select_worker_board(root.node, *_workers(pytestconfig))
        yield root


def _async_fixture() -> Callable[..., Any]:
    try:
        from pytest_trio import trio_fixture
    except ImportError:

        @pytest.fixture
        def jumpstarter_async() -> None:
            """The devices, for trio."""
            pytest.fail("jumpstarter_async needs pytest-trio: pip install pytest-trio", pytrace=False)

        return jumpstarter_async
    fixture: Callable[..., Any] = trio_fixture(_async_root)
    return fixture


jumpstarter_async = _async_fixture()


@pytest.fixture
def _jumpstarter_requirements(request: pytest.FixtureRequest, jumpstarter: DriverClient) -> None:
    from jumpstarter_client.requirements import unmet_requirement

    for marker in request.node.iter_markers("jumpstarter"):
        interfaces = marker.kwargs.get("requires", ())
        interfaces = [interfaces] if isinstance(interfaces, str) else interfaces
        if reason := unmet_requirement(jumpstarter.node, interfaces, marker.kwargs.get("labels", {})):
            pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Record the position of the consoles at the start of a test."""
    consoles = item.config.stash.get(_CONSOLES, None)
    item.stash[_SINCE] = consoles.marks() if consoles else {}
    item.stash[_MESSAGES_BEFORE] = len(item.config.stash.get(_MESSAGES, []))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the output of the consoles to the report of a failed test."""
    report = yield
    consoles = item.config.stash.get(_CONSOLES, None)
    if report.failed and consoles is not None:
        consoles.settle()
        for path, text in consoles.since(item.stash.get(_SINCE, {})):
            report.sections.append((f"console {path}", text))
    messages = item.config.stash.get(_MESSAGES, [])[item.stash.get(_MESSAGES_BEFORE, 0) :]
    if report.failed and messages:
        report.sections.append(("lease", "\n".join(messages)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the messages about the lease of the session."""
    if messages := config.stash.get(_MESSAGES, []):
        terminalreporter.section("jumpstarter lease")
        for sentence in messages:
            terminalreporter.write_line(sentence)


class JumpstarterTest:
    """Base of test classes in Jumpstarter's style: `client` is the exporter's devices, as in `jmp shell`."""

    selector: ClassVar[str] = ""
    """Labels of the board to lease. Inside `jumpstarter shell` the board of the shell is used."""

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, request: pytest.FixtureRequest) -> Iterator[DriverClient]:
        """The devices."""
        if not cls.selector or os.environ.get("JUMPSTARTER_HOST"):
            yield request.getfixturevalue("jumpstarter")
            return
        from jumpstarter_client.connections.connect import connect
        from jumpstarter_client.lease.request import LeaseRequest

        with ExitStack() as stack:
            with _explained(), _progress_shown(request.config, is_leased=True):
                root = stack.enter_context(connect(request=LeaseRequest(selector=cls.selector)))
            yield root


def _option(config: pytest.Config, name: str) -> str | None:
    given: str | None = config.getoption(f"jumpstarter_{name}")
    if given:
        return given
    found: str = config.getini(f"jumpstarter_{name}")
    if name == "exporter" and found and config.inipath is not None:
        from jumpstarter_proto.file_names import user_path

        # A file is relative to the configuration file; a host or a name stays unchanged.
        file = config.inipath.parent / user_path(found)
        if file.suffix in (".yaml", ".yml") or file.exists():
            return str(file)
    return found or None


def _workers(config: pytest.Config) -> tuple[int, int]:
    """Return the number of this pytest-xdist process and of all processes; (0, 1) without pytest-xdist."""
    given = getattr(config, "workerinput", None)
    if given is None:
        return 0, 1
    return int(given["workerid"].removeprefix("gw")), int(given["workercount"])
