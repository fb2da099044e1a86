"""What is fuzzed. A target takes any bytes; what it raises is a fault of ours, but for documented errors."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml
from google.protobuf import struct_pb2
from jumpstarter_client import logs, tree
from jumpstarter_client.cli import devices
from jumpstarter_client.cli.output import write_data
from jumpstarter_client.connection import ExporterConnection
from jumpstarter_client.controller.exporter_view import exporter_views
from jumpstarter_client.controller.lab_snapshot import LabSnapshot
from jumpstarter_client.controller.lease_view import describe
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.host_boards import HostBoard
from jumpstarter_client.logs import LogDeduplicator
from jumpstarter_client.node import Allowed
from jumpstarter_controller.audit.lease_owners import LeaseOwners
from jumpstarter_controller.cli import policy_documents
from jumpstarter_controller.identity import Subject
from jumpstarter_controller.kube_identity.claims import audiences_of, claims_of
from jumpstarter_controller.lab import Key
from jumpstarter_controller.services.call_reports import MAX_AGE, call_entry
from jumpstarter_controller.services.device_reports import devices_of
from jumpstarter_controller.services.health_reports import MAX_FINDINGS, MAX_MEASURES, SEVERITIES, health_of
from jumpstarter_exporter.devices import hwdb, profiles
from jumpstarter_exporter.devices.match import match_devices
from jumpstarter_exporter.devices.suggestion import suggested
from jumpstarter_exporter.devices.udev_device import parse_database
from jumpstarter_exporter.hosting.child_messages import LineSplitter, Ready, decode_message
from jumpstarter_exporter.recording import records
from jumpstarter_proto import value, yaml_files
from jumpstarter_proto.byte_streams import router_frames
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporter_pb2, exporters_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import Options, RpcError
from jumpstarter_proto.rpc._channel import _parse
from jumpstarter_proto.rpc._connection import ConnectionFault, GrpcConnection
from jumpstarter_proto.rpc._messages import FramingError, MessageReader, frame_header
from jumpstarter_proto.rpc._metadata import decode_details, decode_timeout
from jumpstarter_proto.rpc.test_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    REQUEST,
    RST,
    SETTINGS,
    STARTED,
    WINDOW,
    Peer,
    frame,
)
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.yaml_files import ConfigError

from tests.fuzz.board_requests import request, requests
from tests.fuzz.cameras import camera, cameras
from tests.fuzz.flash_changes import flash_messages, flash_streams
from tests.fuzz.images import image, images
from tests.fuzz.kubernetes_objects import watch, watches
from tests.fuzz.outlets import answer, answers
from tests.support.peers import ROOT
from tests.support.udev_hosts import exported, vm

__all__ = ["CORPUS", "TARGETS", "Target"]

CORPUS = Path(__file__).parent / "corpus"
"""By target a folder of inputs; each that was a crash once is there, too."""
_FILE = Path("fuzz.yaml")


@dataclass(frozen=True)
class Target:
    """A parser and what it begins with."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]

    def corpus(self, name: str) -> list[bytes]:
        """Seeds, and what is kept on disk."""
        kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
        return [*self.seeds(), *(file.read_bytes() for file in kept)]


def _in_pieces(data: bytes) -> list[bytes]:
    """The first byte says how large they are."""
    size = data[0] + 1 if data else 1
    return [data[start : start + size] for start in range(1, len(data), size)] if size < 256 else [data[1:]]


def _frames(peer: Peer, data: bytes) -> None:
    with suppress(ConnectionFault):
        for piece in _in_pieces(data):
            peer.connection.receive(piece)
    peer.connection.take()
    assert peer.connection._http2.inbound.unread >= 0
    assert peer.connection.held_in_all >= 0


def _at_server(data: bytes) -> None:
    peer = Peer(client=False)
    peer.request(1)
    _frames(peer, data)


def _at_client(data: bytes) -> None:
    peer = Peer(client=True)
    for _ in range(3):
        peer.call()
    _frames(peer, data)


def _server_frames() -> list[bytes]:
    caller = GrpcConnection(client=True, options=Options())
    caller.start()
    ids = []
    for _ in range(2):
        ids.append(
            caller.start_call("/a.B/C", scheme="http", authority="x", timeout=1, metadata=[("k-bin", b"v")])
        )
        caller.send_message(ids[-1], bytes(100))
    caller.send_data(ids[0], b"", end=True)
    whole = caller.take().removeprefix(PREFACE)
    others = [
        frame(kind, 0, stream, body)
        for kind, stream, body in [
            (RST, 1, bytes(4)),
            (PING, 0, bytes(8)),
            (WINDOW, 1, b"\0\0\1\0"),
            (SETTINGS, 0, b"\0\4\0\1\0\0"),
            (GOAWAY, 0, bytes(8) + b"why"),
            (DATA, 1, frame_header(3) + b"abc"),
        ]
    ]
    # One of each kind, and of kinds that nobody knows, of a call, of none and of one that never was.
    short_name = [
        frame(kind, 0, stream, bytes(size)) for kind in range(12) for stream in (0, 1, 9) for size in (0, 8)
    ]
    pieces = [b"\xff" + piece for piece in short_name]
    return [b"\xff" + whole, b"\x05" + whole, b"\xff" + b"".join(others), *pieces]


def _client_frames() -> list[bytes]:
    peer = Peer(client=False)
    head = frame(HEADERS, END_HEADERS, 1, peer.pack(STARTED))
    body = frame(DATA, 0, 1, frame_header(3) + b"abc")
    end = frame(
        HEADERS, END_HEADERS | END_STREAM, 1, peer.pack([("grpc-status", "5"), ("grpc-message", "a%20b")])
    )
    return [b"\xff" + head + body + end, b"\x07" + head + body + end]


def _headers(data: bytes) -> None:
    peer = Peer(client=False)
    with suppress(ConnectionFault):
        peer.send(HEADERS, END_HEADERS, 1, data)
    text = data.decode("utf-8", "replace")
    with suppress(ValueError):
        decode_timeout(text)
    decode_details(text)


def _header_blocks() -> list[bytes]:
    peer = Peer(client=False)
    extra = [("grpc-timeout", "5S"), ("k-bin", "YWJj,YQ"), ("user-agent", "x" * 40)]
    return [peer.pack([*REQUEST, *extra]), peer.pack(REQUEST), b"10S", b"a%20b%ff"]


def _messages(data: bytes) -> None:
    reader = MessageReader(1000)
    with suppress(FramingError):
        for piece in _in_pieces(data):
            for message, credit in reader.feed(piece):
                assert len(message) <= 1000
                assert credit >= len(message)
            assert reader.held <= 1005 + len(piece)
            assert reader.needs <= 1000


def _health(data: bytes) -> None:
    try:
        request = _parse(exporter_pb2.ReportHealthRequest, data)
    except RpcError:
        return
    kept = health_of(request, 0.0)
    assert len(kept.findings) <= MAX_FINDINGS
    assert len(kept.measures) <= MAX_MEASURES
    assert len(kept.findings) + kept.omitted == len(request.findings)
    assert all(one.severity in SEVERITIES for one in kept.findings)


def _health_reports() -> list[bytes]:
    finding = exporter_pb2.HealthFinding(key="disk.space", severity="ok", subject="/", sentence="a", cure="b")
    request = exporter_pb2.ReportHealthRequest(findings=[finding] * 3, measures={"temperature_celsius": 51.5})
    return [request.SerializeToString()]


def _calls(data: bytes) -> None:
    try:
        request = _parse(exporter_pb2.ReportCallsRequest, data)
    except RpcError:
        return
    for call in request.calls:
        entry = call_entry(
            call, Key("default", "one"), 1e9, lambda _: None, {"power"}, owner_at=LeaseOwners().at
        )
        assert 1e9 - MAX_AGE <= entry.time <= 1e9
        texts = (entry.device, entry.method, entry.user, entry.session, entry.status, entry.what)
        assert all(text.isprintable() for text in texts)
        assert sum(map(len, texts)) < 10_000


def _call_reports() -> list[bytes]:
    call = exporter_pb2.DeviceCall(
        device="power", method="on", lease="l1", user="ana", status="OK", age_seconds=1.5, seconds=0.25
    )
    return [exporter_pb2.ReportCallsRequest(reporter="r", first=7, calls=[call] * 2).SerializeToString()]


def _report(data: bytes) -> None:
    try:
        report = _parse(jumpstarter_pb2.GetReportResponse, data)
        kept, omitted = devices_of(report.reports)  # as a controller keeps them
        assert len(kept) + omitted == sum(bool(one.parent_uuid) for one in report.reports)
        root = tree.build_tree(report, cast("ExporterConnection", None), Allowed())
    except (RpcError, ConnectError):
        return
    with redirect_stdout(io.StringIO()) as out:
        for board in (HostBoard(""), HostBoard(root.name, use=root.reason)):
            for line in devices._tree(root, board):
                devices.print_line(*line)
        write_data([devices._device_data(node, "") for node in root.walk()], "json")
    assert all(line.isprintable() for line in out.getvalue().split("\n"))


def _reports() -> list[bytes]:
    report = jumpstarter_pb2.GetReportResponse(uuid="0", labels={"jumpstarter.dev/name": "lab"})
    for uuid, parent, name in [("0", "", ""), ("1", "0", "rpi4"), ("2", "1", "power"), ("1", "0", "spare")]:
        entry = report.reports.add(uuid=uuid, parent_uuid=parent or None, description="d")
        entry.labels["jumpstarter.dev/name"] = name
        entry.labels["jumpstarter.dev/state"] = "failed"
        entry.methods_description["on"] = "x"
    return [report.SerializeToString()]


def _router_frame(data: bytes) -> None:
    with suppress(RpcError):
        _, payload = router_frames.unpack(data)
        assert len(payload) <= len(data)
    assert router_frames.unpack(router_frames.pack(data))[1] == data


def _recording(data: bytes) -> None:
    for variant in (data, _with_sums(data)):
        _recorded(variant)


def _with_sums(data: bytes) -> bytes:
    """A recording's records with the checksums that they should have: what is behind those is looked at, too."""
    head, tail, start, found = records._HEADER.size, records._SUM.size, 0, bytearray(data)
    while start + head <= len(found):
        end = start + head + int.from_bytes(found[start : start + 4], "big")
        if end + tail > len(found):
            break
        found[end : end + tail] = zlib.crc32(found[start:end]).to_bytes(tail, "big")
        start = end + tail
    return bytes(found)


def _recorded(data: bytes) -> None:
    found = list(records.decode(data))
    assert sum(record.size for record in found) <= len(data)
    assert b"".join(map(records.encode, found)) == data[: sum(record.size for record in found)]


def _recordings() -> list[bytes]:
    pieces = [records.encode(records.ConsoleRecord(1, kind, b"abc")) for kind in records.RecordKind]
    return [b"".join(pieces), *pieces]


def _yaml(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with suppress(yaml.YAMLError):
        yaml_files.load_text(text)
    with suppress(ConfigError):
        yaml_files.Document.load_all(_FILE, "x", text)
    with suppress(yaml.YAMLError):
        yaml_files.set_values(text, {("a", "b"): "c"})


def _yamls() -> list[bytes]:
    return [
        b"a: &a {b: [1, 2.5, yes, ~, 2001-01-01]}\nc: {<<: *a, d: 'x'}\n",
        b"a: |\n  x\nb: >-\n  y\n---\nc: !!binary aGk=\n",
        (ROOT / "drivers/jumpstarter_drivers/power/example.yaml").read_bytes(),
    ]


def _policy(data: bytes) -> None:
    with suppress(ConfigError):
        policy_documents.read_policies(_FILE, data.decode("utf-8", "replace"), "lab")


POLICY = b"""apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: a}
spec:
  exporterSelector: {matchLabels: {board: rpi4}, matchExpressions: [{key: a, operator: In, values: [b]}]}
  policies: [{priority: 5, from: [{clientSelector: {matchLabels: {team: x}}}], maximumDuration: 2h, spotAccess: true}]
"""


def _log_record(data: bytes) -> None:
    entry = logs.entry_of(data)
    LogDeduplicator().is_new(entry)
    assert logs.line_of(entry).isprintable()


def _log_records() -> list[bytes]:
    entry = jumpstarter_pb2.LogStreamResponse(severity="INFO", message="text", source=1, driver_type="serial")
    entry.timestamp.seconds = 5
    entry.structured_fields["a"] = "b"
    return [entry.SerializeToString()]


def _value(data: bytes) -> None:
    try:
        found = value.from_value(_parse(struct_pb2.Value, data))
    except (RpcError, ValueError):
        return
    value.to_value(found)
    with redirect_stdout(io.StringIO()):
        write_data(found, "json")


def _values() -> list[bytes]:
    return [value.to_value({"a": [1, "x", None, True, {"b": 2.5}]}).SerializeToString()]


def _account_token(data: bytes) -> None:
    """Which anybody may send who reaches the controller."""
    text = data.decode("utf-8", "replace")
    claims_of(text)
    claims_of(f"e30.{base64.urlsafe_b64encode(data).decode()}.e30")


def _account_tokens() -> list[bytes]:
    subject = Subject(Kind.CLIENT, "lab", "ann", "uid")
    account = {"serviceaccount": {"name": "ann-client", "uid": "u"}}
    claims = {"aud": audiences_of(subject, "lab:1"), "exp": 2e9, "iat": 1e9, "kubernetes.io": account}
    return [json.dumps(claims).encode()]


SHIPPED = profiles.combine(profiles.shipped(), [])


def _udev(data: bytes) -> None:
    """What a USB device says of itself, which anybody may plug in."""
    tree = parse_database(data.decode("utf-8", "replace"))
    findings = match_devices(tree, SHIPPED, hwdb.shipped())
    matches = [match for one in findings for match in one.matches]
    assert len({match.path for match in matches}) == len(matches)
    assert all(part.isascii() and part for match in matches for part in match.path.split("."))
    suggestion = suggested(tree, findings).encode()
    assert (
        len(suggestion) > yaml_files.MAX_BYTES or profiles.parse(_FILE, suggestion).profiles or not findings
    )


def _udev_databases() -> list[bytes]:
    return [exported(vm().tree).encode()]


def _profiles(data: bytes) -> None:
    with suppress(ConfigError):
        profiles.combine([], [profiles.parse(_FILE, data)])


def _lab_news(data: bytes) -> None:
    """What a controller tells of its lab, in two messages."""
    known = LabSnapshot(max_bytes=10_000)
    cut = len(data) // 2
    for piece in (data, data[:cut], data[cut:]):
        try:
            news = _parse(exporters_pb2.LabNews, piece)
            complete = known.apply(news)
        except RpcError:
            continue
        assert complete is bool(news.revision)
    assert known._current.size == sum(known._current.sizes.values()) <= 10_000
    now = 1e9
    leases = [one.lease for one in (*known.leases.values(), *known.ended.values())]
    with redirect_stdout(io.StringIO()) as out:
        for seen in exporter_views(known.exporters.values(), leases):
            devices.print_line(f"{seen.name} is {seen.status_text}")
        for lease in leases:
            devices.print_line("; ".join(describe(lease, now)))
    assert all(line.isprintable() for line in out.getvalue().split("\n"))


def _labs() -> list[bytes]:
    exporter = client_pb2.Exporter(name="namespaces/lab/exporters/one", labels={"a": "b"}, status_message="x")
    lease = client_pb2.Lease(name="namespaces/lab/leases/x", exporter=exporter.name, client="ann")
    lease.effective_begin_time.seconds = 1
    lease.conditions.add(type="Pending", status="True", message="soon")
    news = exporters_pb2.LabNews(snapshot=True, revision="1", exporters=[exporter], gone_leases=["y"])
    news.leases.add(lease=lease, reason="no-board", place=2)
    lease.effective_end_time.seconds = 2
    news.leases.add(lease=lease)
    return [news.SerializeToString()]


def _hosted(data: bytes) -> None:
    for line in LineSplitter(4096).feed(data):
        with suppress(ValueError):
            message = decode_message(line)
            if isinstance(message, Ready):
                assert all(one.own_labels is not None for one in message.devices)


def _hosted_lines() -> list[bytes]:
    method = {"name": "send", "kind": "call", "signature": "msg", "description": "Send."}
    device = {"path": "board.can", "uuid": "6b8a1f2e-8a4e-4a3c-9d54-6f1b7a3e0a01", "client": "lab.CanClient"}
    device |= {
        "labels": {"a": "b"},
        "description": None,
        "methods_description": {"send": "x"},
        "methods": [method],
    }
    log = {"kind": "log", "level": "INFO", "logger": "driver.Can", "text": "up", "time": 1.5}
    ready = {"kind": "ready", "devices": [device], "failed": {"ecu": "no adapter"}}
    return [json.dumps(one).encode() + b"\n" for one in (log, ready)]


TARGETS = {
    "http2-server": Target(_at_server, _server_frames),
    "http2-client": Target(_at_client, _client_frames),
    "headers": Target(_headers, _header_blocks),
    "messages": Target(_messages, lambda: [b"\xff" + frame_header(3) + b"abc", b"\1" + frame_header(0)]),
    "reports": Target(_report, _reports),
    "calls": Target(_calls, _call_reports),
    "health": Target(_health, _health_reports),
    "lab-news": Target(_lab_news, _labs),
    "router-frames": Target(_router_frame, lambda: [b"\x0a\3abc", b"\x0a\3abc\x10\1", b"\x10\6"]),
    "recordings": Target(_recording, _recordings),
    "yaml-files": Target(_yaml, _yamls),
    "policies": Target(_policy, lambda: [POLICY]),
    "hosted-messages": Target(_hosted, _hosted_lines),
    "log-records": Target(_log_record, _log_records),
    "values": Target(_value, _values),
    "images": Target(image, images),
    "flash-changes": Target(flash_messages, flash_streams),
    "cameras": Target(camera, cameras),
    "kubernetes": Target(watch, watches),
    "outlets": Target(answer, answers),
    "board-requests": Target(request, requests),
    "account-tokens": Target(_account_token, _account_tokens),
    "udev": Target(_udev, _udev_databases),
    "profiles": Target(
        _profiles, lambda: [file.document.file.read_bytes() for file in profiles.shipped()] + [b"enable: [a]"]
    ),
}
