"""Access to network devices: a password, and the trusted certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.private_files import read_private

if TYPE_CHECKING:
    import ssl

__all__ = ["DeviceTrust", "read_password"]


@dataclass(frozen=True)
class DeviceTrust:
    """The certificates that are trusted."""

    ca: str | None = None
    """A file with the trusted authorities; None for those of the system."""
    is_insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Make a TLS context. Blocking: it reads files. OSError if they cannot be read."""
        import ssl  # noqa: PLC0415 - five megabytes, for devices with TLS

        context = ssl.create_default_context(cafile=self.ca)
        if self.is_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def read_password(password: str | None, file: str | None) -> str | None:
    """The configured password, or the first line of the file that only the exporter's user can read. Blocking.

    Raises:
        PrivateFileError: it cannot be read, or others can read it.
        ValueError: it is not a text file.
    """
    if file is None:
        return password
    try:
        return read_private(user_path(file)).decode().partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not a text file; write the password into its first line") from None
