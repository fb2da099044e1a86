"""Requests to an API server, blocking. The package `kubernetes` says where it is and who asks; all else is HTTP.

Its typed client is not used: it would make an object of its own of each of ours.
"""

from __future__ import annotations

import math
import os
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from socket import SHUT_RDWR, SO_KEEPALIVE, SOL_SOCKET, socket
from typing import Any
from urllib.parse import urlencode

import msgspec
import urllib3
import yaml
from jumpstarter_proto.json_texts import decode_json
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from jumpstarter_controller.store.contract import StoreError
from jumpstarter_controller.store.kubernetes.fields import Object

__all__ = ["Api", "Stream", "UnansweredError", "WrongAnswerError", "connect", "refusal", "remedy"]

MERGE_PATCH = "application/merge-patch+json"
MANAGER = "jumpstarter-controller"
"""What managedFields call us."""
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""A server that has not answered by then may have done what it was asked for, or not."""
PIECE_BYTES = 64 * 1024
OBJECTS_PER_PAGE = 500
"""Objects of one answer to a list."""
MAX_MESSAGE_CHARACTERS = 1000
_LONG_VALUE = re.compile(r'Invalid value: "(?:[^"\\]|\\.){200,}": ')
EXPIRED = 410
UNAUTHENTICATED = 401
RELOAD_SECONDS = 1.0
"""Who we are is read again so often at most."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What a Pod has of its account."""


@dataclass
class UnansweredError(Exception):
    """There is no answer."""

    why: str
    may_have_arrived: bool
    """The server may have done it."""

    def __str__(self) -> str:
        return self.why


@dataclass
class WrongAnswerError(Exception):
    """The answer is another than 2xx."""

    status: int
    message: str
    retry_seconds: float | None = None
    """When the server wants to be asked again, if it says so."""
    path: str = ""
    """What was asked for."""

    def __str__(self) -> str:
        return self.message


class _Status(msgspec.Struct):
    """The part of a Status object that is read."""

    message: str = ""


class Api:
    """One API server, as one user. All may be called from several threads."""

    def __init__(
        self, configuration: Any, namespace: str, reload: Callable[[], object] = lambda: None
    ) -> None:
        """`reload` has the configuration say who we are by now."""
        self._reload = reload
        self._reloading = threading.Lock()
        self._reloaded = -math.inf
        self._date: tuple[float, float] | None = None
        """The server's, and when that was by a clock that is never set."""
        self.host = str(configuration.host)
        self.namespace = namespace
        """Where the kubeconfig or the Pod is at home."""
        self._configuration = configuration
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
        options: dict[str, Any] = {
            "ssl_context": context,
            "retries": False,
            "maxsize": 16,
            "socket_options": [
                *urllib3.connection.HTTPConnection.default_socket_options,
                (SOL_SOCKET, SO_KEEPALIVE, 1),
            ],
        }
        if name := getattr(configuration, "tls_server_name", None):
            options["server_hostname"] = name
        proxy = configuration.proxy
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        )

    def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> Object:
        """One request, and the object in its answer, which may take so many seconds.

        Raises:
            UnansweredError, WrongAnswerError: how it failed.
        """
        for _ in range(2):
            try:
                return self._ask(method, path, body, query, kind=kind, seconds=seconds)
            except WrongAnswerError as error:
                if error.status != UNAUTHENTICATED:
                    raise
                refusal = error
            self._authenticate_anew()
        raise refusal

    def _authenticate_anew(self) -> None:
        """What the files say of our token by now: it may have ended, and a new one be there, as a Pod's."""
        with self._reloading:
            if time.monotonic() < self._reloaded + RELOAD_SECONDS:
                return
            self._reloaded = time.monotonic()
            with suppress(ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
                self._reload()

    def _ask(
        self,
        method: str,
        path: str,
        body: Object | None,
        query: Mapping[str, str] | None,
        *,
        kind: str,
        seconds: float,
    ) -> Object:
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)
        with self._sent(
            method, path, body, query, kind=kind, timeout=timeout, preload_content=True
        ) as answer:
            return _checked(path, answer, answer.data)

    def pages(self, path: str) -> tuple[list[Object], int]:
        """All objects of a list, and of which resource version that is.

        Raises:
            UnansweredError, WrongAnswerError: how it failed.
        """
        items: list[Object] = []
        query = {"limit": str(OBJECTS_PER_PAGE)}
        while True:
            try:
                answer = self.ask("GET", path, query=query)
            except WrongAnswerError as error:
                if error.status != EXPIRED or "continue" not in query:
                    raise
                items, query = (
                    [],
                    {"limit": str(OBJECTS_PER_PAGE)},
                )  # what the pages are of is not known any more
                continue
            metadata = answer["metadata"]
            items += answer["items"]
            if not (go_on := metadata.get("continue")):
                return items, int(metadata["resourceVersion"])
            query["continue"] = go_on

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], seconds: float) -> Iterator[Stream]:
        """An answer that is read as it comes; silence of so many seconds is the end of it.

        Raises:
            UnansweredError, WrongAnswerError: how it failed, also later.
        """
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds)
        with self._sent("GET", path, None, query, kind="", timeout=timeout, preload_content=False) as answer:
            stream = Stream(answer)
            try:
                if answer.status == UNAUTHENTICATED:
                    self._authenticate_anew()  # for the next one
                if answer.status != 200:
                    _checked(path, answer, answer.read(PIECE_BYTES))
                yield stream
            finally:
                stream.end()
                answer.close()

    @contextmanager
    def _sent(
        self,
        method: str,
        path: str,
        body: Object | None,
        query: Mapping[str, str] | None,
        *,
        kind: str,
        timeout: urllib3.Timeout,
        preload_content: bool,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        headers = {"Accept": "application/json", "Content-Type": kind, "User-Agent": MANAGER}
        try:
            for one in self._configuration.auth_settings().values():
                headers[one["key"]] = one["value"]
            answer = self._pool.request(
                method,
                self.host + path + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else msgspec.json.encode(body),
                headers={key: value for key, value in headers.items() if value},
                timeout=timeout,
                preload_content=preload_content,
            )
            self._note_date(answer.headers.get("Date", ""))
            yield answer
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise UnansweredError(_words(error), may_have_arrived=False) from error
        except (urllib3.exceptions.HTTPError, OSError, ConfigException) as error:
            raise UnansweredError(_words(error), may_have_arrived=True) from error

    def _note_date(self, text: str) -> None:
        with suppress(ValueError, TypeError):
            self._date = parsedate_to_datetime(text).timestamp(), time.monotonic()

    def server_time(self) -> float | None:
        """What the server's clock says, to a second, in seconds since the epoch; None before its first answer."""
        if self._date is None:
            return None
        date, then = self._date
        return date + time.monotonic() - then

    def close(self) -> None:
        """No connection is kept."""
        self._pool.clear()


def refusal(host: str, error: WrongAnswerError) -> str:
    """What an API server has refused, and what to do about it."""
    how = remedy(error) or "nothing was changed"
    return f"the API server at {host} refuses the controller: {error.message}; {how}"


def remedy(error: WrongAnswerError) -> str:
    """What to do about it; empty where that is not known."""
    match error.status:
        case 401:
            return "renew its token or its kubeconfig"
        case 403 if "is being terminated" in error.message:
            return "its namespace is being deleted: make it again when it is gone"
        case 403 if " cannot " in error.message:  # others, as of a quota, say themselves what there is to do
            return "give its user the role that docs/kubernetes.md shows"
        case 404 if error.message.startswith("namespaces "):
            return "make it, or choose another with --namespace"
        case 404:
            kind = error.path.partition("/apis/")[2].partition("/")[0]
            return f"it does not know the objects of {kind}: apply the definitions in deploy/crds"
        case 400 | 422 if "unknown field" in error.message:
            return "its definitions are of another version: apply those in deploy/crds of this one"
    return ""


class Stream:
    """An answer that is still coming."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        # Below TLS and what else reads it, all of which belongs to the thread that reads.
        self._socket: socket | None = socket(fileno=os.dup(answer.fileno()))

    def pieces(self) -> Iterator[bytes]:
        """Bytes as they come, until the server ends it."""
        while piece := self._answer.read1(PIECE_BYTES):
            yield piece

    def end(self) -> None:
        """End it, from any thread: who waits for a piece gets an error or the end."""
        with self._lock:
            if self._socket is not None:
                with self._socket, suppress(OSError):
                    self._socket.shutdown(SHUT_RDWR)
                self._socket = None


def _checked(path: str, answer: urllib3.BaseHTTPResponse, data: bytes) -> Object:
    if 200 <= answer.status < 300:
        try:
            return decode_json(data, dict[str, Any])
        except ValueError as error:
            raise UnansweredError(f"its answer is not an object: {error}", may_have_arrived=True) from None
    try:
        message = decode_json(data, _Status).message
    except ValueError:
        message = data[:500].decode(errors="replace").strip()
    after = answer.headers.get("Retry-After", "")
    raise WrongAnswerError(
        answer.status,
        _shortened(message) or f"HTTP status {answer.status}",
        float(after) if after.isdecimal() else None,
        path,
    )


def _shortened(message: str) -> str:
    """Without the object that the server has in the middle: it is long, and another each time."""
    return _LONG_VALUE.sub("", message)[:MAX_MESSAGE_CHARACTERS]


def _words(error: BaseException) -> str:
    """Without the addresses of objects that urllib3 has in front."""
    return str(error).rpartition(">: ")[2] or type(error).__name__


def connect(kubeconfig: Path | None, context: str | None = None) -> Api:
    """By a kubeconfig; without one as a Pod does, or else by the user's own.

    Raises:
        StoreError: it cannot be used; says why.
    """
    if kubeconfig is not None and not kubeconfig.exists():
        raise StoreError(f"there is no kubeconfig {kubeconfig}; check the path after --kubeconfig")
    configuration = client.Configuration()
    try:
        with tempfile.TemporaryDirectory(prefix="jumpstarter-") as folder:  # for keys that are in the file
            if kubeconfig is None and _is_pod():
                load = partial(config.load_incluster_config, client_configuration=configuration)
                load()
                return Api(configuration, (ACCOUNT / "namespace").read_text().strip(), load)
            file = None if kubeconfig is None else str(kubeconfig)

            def load_file(folder: str) -> None:
                config.load_kube_config(
                    config_file=file,
                    context=context,
                    client_configuration=configuration,
                    persist_config=False,
                    temp_file_path=folder,
                )

            def load_again() -> None:
                with tempfile.TemporaryDirectory(prefix="jumpstarter-") as folder:
                    load_file(folder)

            load_file(folder)
            contexts, active = config.list_kube_config_contexts(config_file=file)
            chosen = next((one for one in contexts if one["name"] == context), active)
            return Api(configuration, str(chosen["context"].get("namespace") or "default"), load_again)
    except (ConfigException, KeyError, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise StoreError(
            f"the way to the API server is not known: {error}; name a kubeconfig with --kubeconfig"
        ) from error


def _is_pod() -> bool:
    return (ACCOUNT / "token").exists()
