"""Reads and writes integers of one SNMP agent. Blocking, within a time: the library has no other way under trio."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from jumpstarter_proto.texts import shown

from jumpstarter_drivers.power.outlet import OutletRefused, OutletUnreachable

__all__ = ["AuthProtocol", "Community", "PrivProtocol", "SnmpAgent", "User"]

AuthProtocol = Literal["NONE", "MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"]
PrivProtocol = Literal["NONE", "DES", "AES"]
_RESEND_SECONDS = 0.7


@dataclass(frozen=True)
class Community:
    """Credentials of version 2c: a community name."""

    name: str = field(repr=False)


@dataclass(frozen=True)
class User:
    """Credentials of version 3: a user."""

    name: str
    auth_protocol: AuthProtocol = "NONE"
    auth_key: str | None = field(default=None, repr=False)
    priv_protocol: PrivProtocol = "NONE"
    priv_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SnmpAgent:
    """Address of the agent, and the credentials."""

    host: str
    port: int
    asker: Community | User

    def __str__(self) -> str:
        return self.host if self.port == 161 else f"{self.host}:{self.port}"

    def write(self, oid: str, value: int, *, seconds: float) -> None:
        """Write one integer.

        Raises:
            OutletUnreachable: no answer.
            OutletRefused: the agent does not do it, or not for this asker.
        """
        from snmp.smi import Integer32  # noqa: PLC0415 - for whoever has such an outlet

        with self._manager("write", oid, seconds) as manager:
            manager.set((oid, Integer32(value)), timeout=seconds, refreshPeriod=_RESEND_SECONDS)

    def read(self, oids: Sequence[str], *, seconds: float) -> list[int | None]:
        """Read integers; None for those that are not there. Raises as `write` does."""
        with self._manager("read", oids[0], seconds) as manager:
            found = manager.get(*oids, timeout=seconds, refreshPeriod=_RESEND_SECONDS)
            return [getattr(binding.value, "value", None) for binding in found]

    @contextmanager
    def _manager(self, verb: Literal["read", "write"], oid: str, seconds: float) -> Iterator[Any]:
        import snmp  # noqa: PLC0415 - as above
        from snmp.exception import IncomingMessageError, SNMPException  # noqa: PLC0415
        from snmp.pdu import ImproperResponse  # noqa: PLC0415

        family, address = self._resolve()
        engine = snmp.Engine()
        try:
            domain = snmp.UDP_IPv6 if family == socket.AF_INET6 else snmp.UDP_IPv4
            yield self._make_manager(engine, (address, self.port), domain)
        except snmp.Timeout:
            word = "community" if isinstance(self.asker, Community) else "`priv_key`"
            raise OutletUnreachable(
                f"{self} does not answer SNMP within {seconds:g} s; check its address, that SNMP is on, and the {word}:"
                " a wrong one is not answered"
            ) from None
        except snmp.ErrorResponse as error:
            raise OutletRefused(self._refusal(str(error), verb, oid)) from None
        except ImproperResponse:
            raise OutletRefused(
                f"{self} was asked to {verb} {oid} and answers with other objects; restart it, or update its firmware"
            ) from None
        except IncomingMessageError:
            raise OutletUnreachable(f"the answer of {self} is not SNMP; check its address and port") from None
        except SNMPException as error:
            raise OutletRefused(f"{self} does not let this user in: {shown(str(error))}") from None
        except OSError as error:
            raise OutletUnreachable(
                f"{self} cannot be reached ({error.strerror}); check its address"
            ) from None
        finally:
            engine.multiplexor.close()
            del engine.multiplexor  # or it would be closed a second time, when somebody else has its number

    def _make_manager(self, engine: Any, address: tuple[str, int], domain: Any) -> Any:
        import snmp  # noqa: PLC0415 - as above
        from snmp.security.usm import auth, priv  # noqa: PLC0415

        asker = self.asker
        if isinstance(asker, Community):
            return engine.Manager(address, version=snmp.SNMPv2c, domain=domain, community=asker.name.encode())
        name = asker.auth_protocol.capitalize()
        engine.addUser(
            asker.name,
            authProtocol=None if asker.auth_protocol == "NONE" else getattr(auth, f"Hmac{name}"),
            authSecret=None if asker.auth_key is None else asker.auth_key.encode(),
            privProtocol={"NONE": None, "DES": priv.DesCbc, "AES": priv.AesCfb128}[asker.priv_protocol],
            privSecret=None if asker.priv_key is None else asker.priv_key.encode(),
        )
        return engine.Manager(address, version=snmp.SNMPv3, domain=domain, defaultUser=asker.name)

    def _resolve(self) -> tuple[int, str]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise OutletUnreachable(f"{self.host} is not found ({error.strerror}); check its name") from None
        family, _, _, _, address = found[0]
        return family, str(address[0])

    def _refusal(self, said: str, verb: Literal["read", "write"], oid: str) -> str:
        """`said` begins with the error's name."""
        name = said.partition(":")[0].strip()
        if name in ("noAccess", "authorizationError"):
            return f"{self} does not let this community or user do that ({name}); give it the right to {verb}"
        if name in ("notWritable", "noSuchName", "noCreation", "readOnly"):
            way = "written" if verb == "write" else "read"
            return (
                f"{self} has no object {oid} that can be {way} ({name}); check `device`, `outlet` and `unit`"
            )
        return f"{self} refuses to {verb} {oid} ({shown(name)}); check `device`, `outlet` and `unit`"
