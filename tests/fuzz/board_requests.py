"""What boards and users send to file servers and to an SSH agent: TFTP, HTTP, paths, agent requests."""

from __future__ import annotations

from contextlib import suppress

from jumpstarter_drivers.file_server.http import RequestError, RequestReader, selected_range
from jumpstarter_drivers.file_server.served_folder import PathError, parts_of
from jumpstarter_drivers.file_server.tftp import ReadTransfer, TftpError, parse_request
from jumpstarter_drivers.ssh.agent import AgentRequests
from jumpstarter_drivers.ssh.options import allowed_options, check_host_key, check_username

__all__ = ["request", "requests"]


def request(data: bytes) -> None:
    """The bytes, as each of them."""
    with suppress(TftpError):
        asked = parse_request(data)
        transfer = ReadTransfer(1000, asked.options)
        transfer.received(data)
        offset, length = transfer.wanted
        assert 0 <= offset <= offset + length <= 1000
        transfer.packet(bytes(length))
    with suppress(RequestError):
        found = RequestReader().feed(data)
        if found is not None:
            with suppress(PathError):
                assert ".." not in parts_of(found.path)
            part = selected_range(found.range, 1000)
            assert part is None or 0 <= part[0] < part[0] + part[1] <= 1000
    with suppress(ValueError):
        assert len(AgentRequests().feed(data)) <= len(data) * 5 // 4  # an empty request becomes one of a byte
    text = data.decode("utf-8", "replace")
    with suppress(ValueError):
        used, _ = allowed_options(text)
        assert all(word.startswith("-o") and " " not in word and "\n" not in word for word in used)
    for check in (check_username, check_host_key):
        with suppress(ValueError):
            assert "\n" not in check(text)


def requests() -> list[bytes]:
    """Seeds."""
    return [
        b"\0\1boot/zImage\0octet\0blksize\x001468\0tsize\x000\0timeout\x005\0",
        b"\0\4\0\0",
        b"GET /a/../b%2e%2e HTTP/1.1\r\nRange: bytes=1-5\r\n\r\n",
        b"\0\0\0\1\x0b\0\0\0\1\x13\0\0\0\5\x0dabcd",
        b"ssh -o HostKeyAlgorithms=+ssh-rsa -oProxyCommand='x y' -F /dev/null",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2oSr board",
    ]
