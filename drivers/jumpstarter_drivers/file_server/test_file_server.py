"""Files from a user to a board: Debian's curl and busybox load them over the loopback interface."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.file_server import http_server, steps
from jumpstarter_drivers.file_server.client import FileServerClient, HttpServerClient, OpendalClient
from jumpstarter_drivers.file_server.driver import Http, Tftp
from jumpstarter_drivers.file_server.tftp_server import MAX_TRANSFERS
from jumpstarter_drivers.testing import host, serve_async

DATA = bytes(range(256)) * 20  # ten blocks of 512 bytes: the last packet is empty


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state" / "files"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "zImage"
    path.write_bytes(DATA)
    return path


@pytest.fixture(scope="module")
def tools() -> None:
    for name in ("curl", "busybox"):
        if shutil.which(name) is None:
            pytest.skip(f"missing: {name}; apt install {name}")


@asynccontextmanager
async def served(kind: type[Http | Tftp], **config: Any) -> AsyncIterator[Any]:
    """The client of a server on the loopback interface, with its files."""
    values = {"host": "127.0.0.1", "port": 0, **config}
    async with host(kind, **values) as devices, serve_async(devices) as client:
        yield client


async def load(*command: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


async def test_a_board_loads_a_file_by_http(tools: None, image: Path, state: Path) -> None:
    async with host(Http, host="127.0.0.1", port=0, allowed=["127.0.0.0/8"]) as devices:
        async with serve_async(devices) as client:
            assert isinstance(client, HttpServerClient)
            assert await client.get_port.aio() == 0
            url = await client.put.aio(image, name="boot/z image")
            assert url == f"http://127.0.0.1:{await client.get_port.aio()}/boot/z%20image"
            await client.start.aio()  # changes nothing
            assert (await load("curl", "-sS", url)).stdout == DATA
            assert (await load("curl", "-sS", "-r", "256-511", url)).stdout == DATA[:256]
            two_slashes = url.replace("/boot", "//boot")  # where a URL that ends in a slash was joined
            assert (await load("curl", "-sS", two_slashes)).stdout == DATA
            head = (await load("curl", "-sSI", url)).stdout
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 5120\r\n")
            assert (await load("busybox", "wget", "-q", "-O", "-", url)).stdout == DATA
            base = await client.get_url.aio()
            for path, code in (("/none", 404), ("/%2e%2e/zImage", 400), ("/boot", 404), ("/", 400)):
                status = await load(
                    "curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", base + path
                )
                assert status.stdout == b"%d" % code
            posted = await load("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x", url)
            assert posted.stdout == b"405"
            await client.stop.aio()
            assert (await load("curl", "-sS", url)).returncode == 7  # nobody listens
        assert [list(folder.rglob("*Image")) for folder in state.iterdir()] == [
            []
        ]  # the session's files are gone
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("size", [0, 511, 5120])
async def test_a_board_loads_a_file_by_tftp(tools: None, tmp_path: Path, size: int) -> None:
    async with served(Tftp) as client:
        assert isinstance(client, FileServerClient)
        source = tmp_path / "source"
        source.write_bytes(DATA[:size])
        url = await client.put.aio(source)
        port = str(await client.get_port.aio())
        assert url == f"tftp://127.0.0.1:{port}/source"
        assert (await load("curl", "-sS", "--tftp-blksize", "1024", url)).stdout == DATA[:size]
        assert (await load("curl", "-sS", "--tftp-no-options", url)).stdout == DATA[:size]
        busybox = ["busybox", "tftp", "-b", "512", "-l", "/dev/stdout", "127.0.0.1", port]
        assert (await load(*busybox, "-g", "-r", "source")).stdout == DATA[:size]
        missing = await load("curl", "-sS", f"{url}-none")
        assert missing.returncode == 68  # as curl says "file not found"
        written = await load("busybox", "tftp", "-p", "-l", str(source), "-r", "new", "127.0.0.1", port)
        assert b"this server does not take files" in written.stderr


async def test_only_the_board_may_read(tools: None, image: Path) -> None:
    boards = ["192.0.2.7", "2001:db8::/32"]
    async with served(Http, allowed=boards) as client:
        url = await client.put.aio(image)
        refused = await load("curl", "-s", "-w", "%{http_code}", url)
        assert refused.stdout == b"this address may not read here\n403"
    driver = Tftp(allowed=boards)
    assert driver.is_allowed("::ffff:192.0.2.7")
    assert driver.is_allowed("2001:db8::1")
    async with served(Tftp, host="127.0.0.1", allowed=["127.0.0.2"]) as client:
        await client.put.aio(image)
        with _board("127.0.0.1") as other, _board("127.0.0.2") as board:
            for one in (other, board):
                one.sendto(b"\0\1zImage\0octet\0", ("127.0.0.1", await client.get_port.aio()))
            await trio.lowlevel.wait_readable(board)
            assert board.recv(1000) == b"\0\3\0\1" + DATA[:512]
            with pytest.raises(BlockingIOError):  # it asked first
                other.recv(10)


async def test_a_board_that_asks_very_often_keeps_no_other_from_reading(image: Path) -> None:
    async with served(Tftp) as client, AsyncExitStack() as stack:
        await client.put.aio(image)
        for address in ["127.0.0.2"] * MAX_TRANSFERS + ["127.0.0.1"]:
            board = stack.enter_context(_board(address))
            board.sendto(b"\0\1zImage\0octet\0timeout\x00255\0", ("127.0.0.1", await client.get_port.aio()))
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(board)
        assert board.recv(1000) == b"\0\6timeout\x00255\0"


def _board(address: str) -> socket.socket:
    board = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    board.setblocking(False)
    board.bind((address, 0))
    return board


async def test_users_manage_the_files(image: Path, tmp_path: Path) -> None:
    async with served(Http) as client:
        files = client.storage
        assert isinstance(files, OpendalClient)
        await files.write_from_path.aio("boot/zImage", image)
        await files.write_bytes.aio("boot/cmdline", b"quiet")
        assert [name async for name in files.list.aio("boot")] == ["cmdline", "zImage"]
        assert await files.read_bytes.aio("boot/zImage") == DATA
        stat = await files.stat.aio("boot/cmdline")
        assert isinstance(stat, dict)
        assert (stat["content_length"], stat["mode"]) == (5.0, {"entry_is_file": True, "entry_is_dir": False})
        assert len(await files.hash.aio("boot/cmdline")) == 64
        await files.read_into_path.aio("boot/cmdline", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"quiet"
        await files.rename.aio("boot/cmdline", "boot/old")
        await files.delete.aio("boot/old")
        assert not await files.exists.aio("boot/old")
        await files.create_dir.aio("a/b")
        await files.remove_all.aio("a")
        assert [name async for name in files.list.aio()] == ["boot/"]
        for wrong in ("../x", "/a/../../x", ""):
            with pytest.raises(
                (DriverError, ValueError), match=r"not a path in this folder|the path is empty"
            ):
                await files.write_bytes.aio(wrong, b"x")
        with pytest.raises(JumpstarterError, match=r"/none cannot be read: No such file"):
            await files.write_from_path.aio("x", Path("/none"))
        with pytest.raises(DriverError, match="the file is not open for reading"):
            await files.call_async("file_read", "no", {})


async def test_a_file_that_is_cut_or_too_large_does_not_appear(image: Path) -> None:
    async with served(Http, size_limit=6000) as client:
        files = client.storage
        await files.write_bytes.aio("zImage", b"old")

        class Cut:
            is_first = True

            async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
                if not self.is_first:
                    raise ZeroDivisionError
                self.is_first = False
                return b"new"

        with pytest.raises(ZeroDivisionError):
            await files._send("zImage", Cut())
        with pytest.raises(DriverError, match="more than 6000 bytes; remove some, or raise size_limit"):
            await files.write_bytes.aio("other", DATA + DATA)
        await files.call_async(
            "file_close", await files.call_async("open", "zImage", "wb")
        )  # a user who left early
        assert await files.read_bytes.aio("zImage") == b"old"
        await files.write_bytes.aio("empty", b"")
        assert await files.read_bytes.aio("empty") == b""
        await files.delete.aio("empty")
        assert [name async for name in files.list.aio()] == ["zImage"]
        await files.write_from_path.aio("other", image)


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with served(Http, port=port) as client:
            with pytest.raises(DriverError, match=f"cannot listen on 127.0.0.1 port {port}: .*check `host`"):
                await client.start.aio()
    driver = Tftp(host="127.0.0.1")
    assert "CAP_NET_BIND_SERVICE" in str(driver._explain(PermissionError(13, "Permission denied")))


async def test_a_step_puts_a_file(tools: None, image: Path) -> None:
    said: list[str] = []

    class Context:
        def input_file(self, path: str) -> str:
            return str(image.parent / path)

        def say(self, text: str) -> None:
            said.append(text)

    async with served(Http) as client:
        url = await steps.put.function(client, Context(), "zImage", name="kernel")
        assert said == [url]
        assert (await load("curl", "-sS", str(url))).stdout == DATA


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"allowed": ["board"]}, "allowed is invalid"),
        ({"port": 70000}, "port is 70000"),
        ({"size_limit": 0}, "size_limit is 0"),
        ({"timeout": 0}, "timeout is 0"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Http(**config)


def test_keys_of_jumpstarter_work(tmp_path: Path) -> None:
    """Left out, the address is that of the default route, as there."""
    served = Http(root_dir=str(tmp_path), port=8080, remove_created_on_close=False, timeout=600)
    assert served.get_url().startswith("http://")
    assert Tftp(host="", root_dir=str(tmp_path)).get_host().count(".") == 3


async def test_connections_that_are_not_answered_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 1)
    async with served(Http, allowed=["127.0.0.2"]) as client, AsyncExitStack() as stack:
        await client.start.aio()
        port = await client.get_port.aio()

        async def connect(address: str) -> trio.SocketStream:
            stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=address)
            return await stack.enter_async_context(stream)

        boards = [await connect("127.0.0.2") for _ in range(3)]
        strangers = [await connect("127.0.0.1") for _ in range(3)]
        with trio.fail_after(30):
            assert (await boards[1].receive_some()).startswith(b"HTTP/1.1 503 ")
            assert (await strangers[0].receive_some()).startswith(b"HTTP/1.1 403 ")
            assert await boards[2].receive_some() == b""
            assert await strangers[2].receive_some() == b""
            await boards[0].send_all(b"GET /none HTTP/1.1\r\n\r\n")
            assert (await boards[0].receive_some()).startswith(b"HTTP/1.1 404 ")
