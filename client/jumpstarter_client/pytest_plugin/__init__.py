"""Boards in pytest. Installed as a plugin; nothing is connected, or even imported, before a test asks for it.

Fixtures: `jumpstarter` (blocking, for the session), `jumpstarter_async` (for tests of pytest-trio) and
`jumpstarter_host`, the address that both use. The marker `jumpstarter(requires=[...], labels={...})` skips a test
whose hardware is not there. The consoles' output during a failing test is part of its report.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from jumpstarter_client.base import DriverClient
    from jumpstarter_client.lease.board import Board
    from jumpstarter_client.node import Allowed
    from jumpstarter_client.pytest_plugin.consoles import Consoles

__all__ = ["JumpstarterTest"]

_CONSOLES: pytest.StashKey[Consoles | None] = pytest.StashKey()
_SINCE: pytest.StashKey[dict[str, int]] = pytest.StashKey()
_NOTICES: pytest.StashKey[list[str]] = pytest.StashKey()
"""What a leased board's users have to hear, such as its end; of the session."""
_ALLOWED: pytest.StashKey[Allowed] = pytest.StashKey()
"""The client classes that the configuration lets a leased board's drivers load."""
_TOLD: pytest.StashKey[int] = pytest.StashKey()
"""How many of them there were when a test began."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options."""
    group = parser.getgroup("jumpstarter", "boards")
    options = [
        ("exporter", "a socket, HOST:PORT, or a YAML file from which an exporter is started for the session"),
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
    """Our marker."""
    config.addinivalue_line(
        "markers",
        "jumpstarter(requires=[], labels={}): interfaces and labels that the hardware must have, or it is skipped",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A marked test asks for its requirements before anything else."""
    for item in items:
        if item.get_closest_marker("jumpstarter") is not None and isinstance(item, pytest.Function):
            item.fixturenames.insert(0, "_jumpstarter_requirements")


@contextmanager
def _explained() -> Iterator[None]:
    """What a user can act on is told in a sentence, and not with our stack."""
    from jumpstarter_proto.errors import JumpstarterError

    try:
        yield
    except JumpstarterError as error:
        said = str(error)
        if getattr(error, "boards", None):
            said += "; for pytest, --jumpstarter-board NAME or JUMPSTARTER_BOARD"
        raise pytest.fail.Exception(said, pytrace=False) from None  # or it would be told twice


@pytest.fixture(scope="session")
def jumpstarter_host(pytestconfig: pytest.Config) -> Iterator[str]:
    """Where the exporter is reached. One that is started for the session serves a private socket."""
    from jumpstarter_client.blocking import PortalThread
    from jumpstarter_client.connections.connect import open_host
    from jumpstarter_client.pytest_plugin.boards import target

    names = ("exporter", "selector", "lease", "duration")
    exporter, selector, lease, duration = (_option(pytestconfig, name) for name in names)
    notices = pytestconfig.stash.setdefault(_NOTICES, [])

    def leased(board: Board) -> None:
        pytestconfig.stash[_ALLOWED] = board.lease.config.allowed()

    with ExitStack() as stack:
        with _explained():
            board = _option(pytestconfig, "board")
            where = target(exporter, selector, lease, _workers(pytestconfig), duration, board=board)
            portal = stack.enter_context(PortalThread())
            address = stack.enter_context(
                portal.context(
                    open_host(
                        where.host,
                        config=where.config,
                        board=board,
                        request=where.request,
                        on_leased=leased,
                        on_message=notices.append,
                        on_lease_end=notices.append,
                    )
                )
            )
        yield address


@pytest.fixture(scope="session")
def jumpstarter(jumpstarter_host: str, pytestconfig: pytest.Config) -> Iterator[DriverClient]:
    """The devices: `jumpstarter.rpi4.power.on()`. With pytest-xdist each process has one board, its own."""
    from jumpstarter_client.connections.connect import connect
    from jumpstarter_client.pytest_plugin.boards import keep_own
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
                keep_own(root.node, *_workers(pytestconfig))
        if not pytestconfig.getoption("no_jumpstarter_consoles"):
            pytestconfig.stash[_CONSOLES] = stack.enter_context(root.portal.context(watch(root.node)))
        yield root
        pytestconfig.stash.setdefault(_CONSOLES, None)
        del pytestconfig.stash[_CONSOLES]


async def _async_root(
    jumpstarter_host: str, jumpstarter: DriverClient, pytestconfig: pytest.Config
) -> AsyncIterator[DriverClient]:
    """The devices, for trio: `await jumpstarter_async.rpi4.power.on.aio()`."""
    # Beside the blocking one, which reads the consoles for the reports.
    from jumpstarter_client.connections.connect import connect_async
    from jumpstarter_client.pytest_plugin.boards import keep_own

    allowed = pytestconfig.stash.get(_ALLOWED, None)
    board = _option(pytestconfig, "board")
    async with connect_async(jumpstarter_host, board=board, allowed=allowed) as root:
        keep_own(root.node, *_workers(pytestconfig))
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
    """A test begins: what its consoles say belongs to it."""
    consoles = item.config.stash.get(_CONSOLES, None)
    item.stash[_SINCE] = consoles.marks() if consoles else {}
    item.stash[_TOLD] = len(item.config.stash.get(_NOTICES, []))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the consoles said during a test that failed."""
    report = yield
    consoles = item.config.stash.get(_CONSOLES, None)
    if report.failed and consoles is not None:
        consoles.settle()
        for path, text in consoles.since(item.stash.get(_SINCE, {})):
            report.sections.append((f"console {path}", text))
    notices = item.config.stash.get(_NOTICES, [])[item.stash.get(_TOLD, 0) :]
    if report.failed and notices:
        report.sections.append(("lease", "\n".join(notices)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what happened to the lease of the session's board."""
    if notices := config.stash.get(_NOTICES, []):
        terminalreporter.section("jumpstarter lease")
        for sentence in notices:
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
            with _explained():
                root = stack.enter_context(connect(request=LeaseRequest(selector=cls.selector)))
            yield root


def _option(config: pytest.Config, name: str) -> str | None:
    given: str | None = config.getoption(f"jumpstarter_{name}")
    if given:
        return given
    found: str = config.getini(f"jumpstarter_{name}")
    if name == "exporter" and found and config.inipath is not None:
        # A file is named from where it is written, wherever pytest is started; a host or a name stays as it is.
        file = config.inipath.parent / Path(found).expanduser()
        if file.suffix in (".yaml", ".yml") or file.exists():
            return str(file)
    return found or None


def _workers(config: pytest.Config) -> tuple[int, int]:
    """Which of how many processes of pytest-xdist this is; (0, 1) without."""
    given = getattr(config, "workerinput", None)
    if given is None:
        return 0, 1
    return int(given["workerid"].removeprefix("gw")), int(given["workercount"])
