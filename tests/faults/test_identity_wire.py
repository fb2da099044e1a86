"""False identities in every call, with grpcio over TLS: forged tokens, leases of others, other namespaces."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.duration_pb2 import Duration
from jumpstarter_controller.identity import Subject, TokenIssuer, signing_key
from jumpstarter_controller.router.tokens import RouterTokens
from jumpstarter_proto.client.v1 import client_grpc, client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import Cardinality, Method
from jumpstarter_proto.v1 import jumpstarter_grpc
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller
from tests.interop.exporters import free_port

pytestmark = pytest.mark.timeout(300)
CLIENT_SERVICE = {one.name: one for one in client_grpc.ClientServiceServicer.METHODS}
CONTROLLER_SERVICE = {one.name: one for one in jumpstarter_grpc.ControllerServiceServicer.METHODS}
OF_EXPORTERS = (
    "Register",
    "Unregister",
    "ReportStatus",
    "Status",
    "Listen",
    "GetServiceEndpoints",
    "AuditStream",
)
OF_CLIENTS = ("Dial", "RequestLease", "GetLease", "ListLeases")
LEASE = f"{PARENT}/leases/mine"
Code = grpc.StatusCode


@dataclass
class Lab:
    """A controller with a router; ann has a lease of the one exporter, and there is more than one namespace."""

    process: Controller
    people: dict[str, lab_pb2.Credential]
    channel: grpc.Channel

    def who(self, who: str, /, *, token: str | None = None, **lies: str) -> list[tuple[str, str]]:
        """The metadata of somebody's call."""
        one = self.people[who]
        said = {"namespace": one.namespace, "kind": one.kind, "name": one.name} | lies
        metadata = [(f"jumpstarter-{key}", value) for key, value in said.items()]
        return [*metadata, ("authorization", f"Bearer {token or one.token}")]

    def call(
        self,
        method: Method[Any, Any],
        request: Any,
        metadata: list[tuple[str, str]],
        channel: grpc.Channel | None = None,
    ) -> tuple[Code, str]:
        """How a call ends; of a stream, how it begins."""
        channel = channel or self.channel
        kinds = {
            Cardinality.UNARY_UNARY: channel.unary_unary,
            Cardinality.UNARY_STREAM: channel.unary_stream,
            Cardinality.STREAM_UNARY: channel.stream_unary,
            Cardinality.STREAM_STREAM: channel.stream_stream,
        }
        stub = kinds[method.cardinality](method.path, lambda one: one.SerializeToString(), lambda data: data)
        given = iter([request]) if method.cardinality.streams_requests else request
        try:
            answer = stub(given, metadata=metadata, timeout=CALL_SECONDS)
            if method.cardinality.streams_responses:
                next(answer)
                answer.cancel()
        except grpc.RpcError as error:
            return error.code(), error.details()
        return Code.OK, ""


async def people(process: Controller) -> dict[str, lab_pb2.Credential]:
    made = {
        "ann": await process.create(Kind.CLIENT, "ann"),
        "bob": await process.create(Kind.CLIENT, "bob"),
        "board": await process.create(Kind.EXPORTER, "board", board="rpi4"),
        "spare": await process.create(Kind.EXPORTER, "spare", board="spare"),
        "far": await process.create(Kind.CLIENT, "ann", "other"),
    }
    async with process.administration() as admin:
        made["gone"] = await process.create(Kind.CLIENT, "gone")
        gone = lab_pb2.ObjectRequest(kind="Client", namespace="default", name="gone")
        await admin.Delete(gone, timeout=CALL_SECONDS)
        made["again"] = await process.create(Kind.CLIENT, "again")
        again = lab_pb2.ObjectRequest(kind="Client", namespace="default", name="again")
        await admin.Delete(again, timeout=CALL_SECONDS)
        await process.create(Kind.CLIENT, "again")
    return made


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    router = f"127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory(prefix="identity-") as home,
        controller(Path(home), more=["--with-router", "--router-listen", router]) as process,
    ):
        made = trio.run(people, process)
        credentials = grpc.ssl_channel_credentials(made["ann"].ca.encode())
        with grpc.secure_channel(process.endpoint, credentials) as channel:
            lab = Lab(process, made, channel)
            registered = pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="x")])
            for name in ("board", "spare"):
                ended = lab.call(CONTROLLER_SERVICE["Register"], registered, lab.who(name))
                assert ended[0] is Code.OK, ended
            # LEASE_READY, which no new lease waits for: what matters is whose it is.
            report = pb.ReportStatusRequest(status=2)  # type: ignore[arg-type]
            assert lab.call(CONTROLLER_SERVICE["ReportStatus"], report, lab.who("board"))[0] is Code.OK
            lease = client_pb2.Lease(selector="board=rpi4", duration=Duration(seconds=3600))
            create = client_pb2.CreateLeaseRequest(parent=PARENT, lease_id="mine", lease=lease)
            assert lab.call(CLIENT_SERVICE["CreateLease"], create, lab.who("ann"))[0] is Code.OK
            yield lab


LIST = client_pb2.ListLeasesRequest(parent=PARENT)


def part(data: object) -> str:
    """Of a token."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forgeries(lab: Lab) -> dict[str, str]:
    """Tokens in ann's name that nobody gave her."""
    key = signing_key(lab.process.data / "tokens.key")
    other = ec.generate_private_key(ec.SECP256R1())
    real = lab.people["ann"].token
    claims = jwt.decode(real, options={"verify_signature": False})
    head, body, signature = real.split(".")
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def hs256(secret: bytes) -> str:
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{body}"
        return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    def signed(
        with_key: ec.EllipticCurvePrivateKey = key, header: dict[str, Any] | None = None, **more: Any
    ) -> str:
        found = {name: value for name, value in (claims | more).items() if value is not None}
        return jwt.encode(found, with_key, algorithm="ES256", headers=header)

    jwk = json.loads(jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(other.public_key()))
    later = ec.generate_private_key(ec.SECP384R1())
    return {
        "other key": signed(other),
        "other key with its own jwk": signed(other, {"jwk": jwk}),
        "kid that is a path": signed(other, {"kid": "../../../../dev/null"}),
        "kid that is a query": signed(other, {"kid": "x' UNION SELECT 'key"}),
        "jku": signed(other, {"jku": "https://evil.example/jwks"}),
        "none": f"{part({'alg': 'none'})}.{body}.",
        "None": f"{part({'alg': 'None'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "empty signature": f"{head}.{body}",
        "signature of zeros": f"{head}.{body}.{part(bytes(64))}",
        "HS256 with the public key": hs256(public),
        "HS256 with nothing": hs256(b""),
        "ES384": jwt.encode(claims, later, algorithm="ES384"),
        "another body": f"{head}.{part(claims | {'sub': 'client:default:bob:x'})}.{signature}",
        "expired": signed(iat=1000, exp=2000),
        "expired a moment ago": signed(exp=int(time.time()) - 1),
        "another audience": signed(aud=["other.lab:8082"]),
        "audience of Jumpstarter's own": signed(aud=["jumpstarter"]),
        "no audience": signed(aud=None),
        "another issuer": signed(iss="https://evil.example"),
        "no end": signed(exp=None),
        "end that is no number": signed(exp="never"),
        "endless": f"{head}.{part(b'{' + b'}')}.{signature}",
        "no subject": signed(sub=None),
        "subject that is none": signed(sub="ann"),
        "subject with more": signed(sub=claims["sub"] + ":x"),
        "kind that is none": signed(sub=claims["sub"].replace("client:", "admin:")),
        "an exporter of that name": signed(sub=claims["sub"].replace("client:", "exporter:")),
        "another object's uid": signed(sub="client:default:ann:00000000-0000-0000-0000-000000000000"),
        "nothing": "x",
        "dots": "..",
        "much": "a" * 20_000,
        "deep": f"{part(b'[' * 5000)}.{body}.{signature}",
        "of bob": lab.people["bob"].token,
        "of another ann": lab.people["far"].token,
        "of the router": RouterTokens((lab.process.data / "router.key").read_bytes()).issue(),
    }


SENTENCES = {
    "expired": "token is expired",
    "expired a moment ago": "token is expired",
    "another audience": "another controller",
}


def test_forged_tokens_are_refused_with_a_sentence(lab: Lab) -> None:
    assert lab.call(CLIENT_SERVICE["ListLeases"], LIST, lab.who("ann"))[0] is Code.OK
    calls = (
        (CLIENT_SERVICE["ListLeases"], LIST),
        (CONTROLLER_SERVICE["Dial"], pb.DialRequest(lease_name="mine")),
    )
    for what, token in forgeries(lab).items():
        for service, request in calls:
            code, details = lab.call(service, request, lab.who("ann", token=token))
            assert code in {Code.UNKNOWN, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED}, (what, code, details)
            assert SENTENCES.get(what, "") in details, what
            assert len(details) > 15, what
            assert token not in details, "a token in a sentence"
    log = (lab.process.log / "jumpstarter-controller.log").read_text()
    assert "Traceback" not in log


@pytest.mark.parametrize("name", ["gone", "again"])
def test_tokens_of_what_was_deleted(lab: Lab, name: str) -> None:
    code, details = lab.call(CLIENT_SERVICE["ListLeases"], LIST, lab.who(name))
    assert code in {Code.UNKNOWN, Code.PERMISSION_DENIED}
    assert "was deleted" in details or "permission denied" in details


def everything() -> list[Method[Any, Any]]:
    return [*CLIENT_SERVICE.values(), *CONTROLLER_SERVICE.values()]


@pytest.mark.parametrize("method", everything(), ids=lambda one: one.path)
def test_every_call_wants_the_right_caller(lab: Lab, method: Method[Any, Any]) -> None:
    request = method.request_type()
    code, details = lab.call(method, request, [])
    if method.name == "Reset":
        assert code is Code.UNIMPLEMENTED
        return
    assert (code, details) == (Code.UNAUTHENTICATED, "missing authorization header")
    is_for_client = method.path in {one.path for one in CLIENT_SERVICE.values()} or method.name in OF_CLIENTS
    assert is_for_client or method.name in OF_EXPORTERS or method.name == "ReleaseLease"
    if method.name == "ReleaseLease":
        return
    wrong, right = ("board", "Client") if is_for_client else ("ann", "Exporter")
    code, details = lab.call(method, request, lab.who(wrong))
    assert code is Code.INVALID_ARGUMENT
    assert "kind mismatch" in details
    # With a lie about its kind: there is no such object, or the token is not its.
    code, details = lab.call(method, request, lab.who(wrong, kind=right))
    assert code in {Code.UNKNOWN, Code.PERMISSION_DENIED}, details
    own = "ann" if is_for_client else "board"
    # With a token that is good, for somebody that it does not name.
    for lie in (
        {"namespace": "other"},
        {"name": "bob" if is_for_client else "spare"},
        {"namespace": ""},
        {"name": ""},
    ):
        code, details = lab.call(method, request, lab.who(own, **lie))
        assert code in {Code.UNKNOWN, Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT}, (lie, details)
        assert details


def in_namespace(namespace: str) -> list[tuple[Method[Any, Any], Any]]:
    """A call of each kind about objects of a namespace."""
    parent = f"namespaces/{namespace}"
    lease = client_pb2.Lease(selector="board=rpi4", duration=Duration(seconds=60))
    named = client_pb2.Lease(name=f"{parent}/leases/mine", duration=Duration(seconds=60))
    return [
        (CLIENT_SERVICE["GetExporter"], client_pb2.GetExporterRequest(name=f"{parent}/exporters/board")),
        (CLIENT_SERVICE["ListExporters"], client_pb2.ListExportersRequest(parent=parent)),
        (CLIENT_SERVICE["GetLease"], client_pb2.GetLeaseRequest(name=f"{parent}/leases/mine")),
        (CLIENT_SERVICE["ListLeases"], client_pb2.ListLeasesRequest(parent=parent)),
        (CLIENT_SERVICE["CreateLease"], client_pb2.CreateLeaseRequest(parent=parent, lease=lease)),
        (CLIENT_SERVICE["UpdateLease"], client_pb2.UpdateLeaseRequest(lease=named)),
        (CLIENT_SERVICE["DeleteLease"], client_pb2.DeleteLeaseRequest(name=f"{parent}/leases/mine")),
        (CLIENT_SERVICE["RotateToken"], client_pb2.RotateTokenRequest(parent=parent)),
    ]


def test_objects_of_another_namespace(lab: Lab) -> None:
    calls = in_namespace("default")
    assert {method.name for method, _ in calls} == set(CLIENT_SERVICE), "a call is missing here"
    for method, request in calls:
        code, details = lab.call(method, request, lab.who("far"))
        assert code is Code.PERMISSION_DENIED, (method.path, details)
        assert "namespace mismatch" in details
    # The older calls have no namespace in them: it is the caller's own.
    for method, request in (
        (CONTROLLER_SERVICE["Dial"], pb.DialRequest(lease_name="mine")),
        (CONTROLLER_SERVICE["GetLease"], pb.GetLeaseRequest(name="mine")),
        (CONTROLLER_SERVICE["ReleaseLease"], pb.ReleaseLeaseRequest(name="mine")),
    ):
        code, details = lab.call(method, request, lab.who("far"))
        assert code in {Code.UNKNOWN, Code.NOT_FOUND}
        assert "not found" in details


def test_somebody_elses_lease(lab: Lab) -> None:
    named = client_pb2.Lease(name=LEASE, duration=Duration(seconds=60))
    stolen = client_pb2.Lease(name=LEASE, client=f"{PARENT}/clients/bob")
    tries: list[tuple[str, Method[Any, Any], Any, Code]] = [
        ("bob", CLIENT_SERVICE["UpdateLease"], client_pb2.UpdateLeaseRequest(lease=named), Code.UNKNOWN),
        ("bob", CLIENT_SERVICE["UpdateLease"], client_pb2.UpdateLeaseRequest(lease=stolen), Code.UNKNOWN),
        ("bob", CLIENT_SERVICE["DeleteLease"], client_pb2.DeleteLeaseRequest(name=LEASE), Code.UNKNOWN),
        ("bob", CONTROLLER_SERVICE["Dial"], pb.DialRequest(lease_name="mine"), Code.UNKNOWN),
        ("bob", CONTROLLER_SERVICE["GetLease"], pb.GetLeaseRequest(name="mine"), Code.UNKNOWN),
        ("bob", CONTROLLER_SERVICE["ReleaseLease"], pb.ReleaseLeaseRequest(name="mine"), Code.UNKNOWN),
        ("spare", CONTROLLER_SERVICE["Listen"], pb.ListenRequest(lease_name="mine"), Code.UNKNOWN),
    ]
    for name, method, request, expected in tries:
        code, details = lab.call(method, request, lab.who(name))
        assert (code, "permission denied" in details) == (expected, True), (method.path, details)
    release = pb.ReleaseLeaseRequest(name="mine")
    code, details = lab.call(CONTROLLER_SERVICE["ReleaseLease"], release, lab.who("spare"))
    assert code is Code.FAILED_PRECONDITION
    assert "is not held by exporter spare" in details
    report = pb.ReportStatusRequest(status=2, release_lease=True)  # type: ignore[arg-type]
    assert lab.call(CONTROLLER_SERVICE["ReportStatus"], report, lab.who("spare"))[0] is Code.OK
    listing = lab.channel.unary_unary(
        CONTROLLER_SERVICE["ListLeases"].path,
        lambda one: one.SerializeToString(),
        pb.ListLeasesResponse.FromString,
    )
    for name, own in (("bob", []), ("far", []), ("ann", ["mine"])):
        found = listing(pb.ListLeasesRequest(), metadata=lab.who(name), timeout=CALL_SECONDS)
        assert found.names == own, name
    get = client_pb2.GetLeaseRequest(name=LEASE)
    stub = lab.channel.unary_unary(
        CLIENT_SERVICE["GetLease"].path, lambda one: one.SerializeToString(), client_pb2.Lease.FromString
    )
    lease = stub(get, metadata=lab.who("ann"), timeout=CALL_SECONDS)
    assert lease.client == f"{PARENT}/clients/ann"
    assert not lease.HasField("effective_end_time")
    assert lease.duration.seconds == 3600


def test_repeated_and_missing_words(lab: Lab) -> None:
    good = lab.who("ann")
    for change, expected, words in (
        (lambda all_: [*all_, all_[-1]], Code.INVALID_ARGUMENT, "multiple authorization"),
        (lambda all_: [*all_, ("jumpstarter-kind", "Client")], Code.INVALID_ARGUMENT, "multiple metadata"),
        (lambda all_: all_[1:], Code.INVALID_ARGUMENT, "missing metadata: jumpstarter-namespace"),
        (lambda all_: [*all_[:-1], ("authorization", "Basic eDp5")], Code.INVALID_ARGUMENT, "malformed"),
    ):
        mangle: Callable[[list[tuple[str, str]]], list[tuple[str, str]]] = change
        code, details = lab.call(CLIENT_SERVICE["ListLeases"], LIST, mangle(good))
        assert code is expected
        assert words in details


def test_the_router_takes_no_other_token(lab: Lab) -> None:
    key = (lab.process.data / "router.key").read_bytes()
    now = time.time()
    issued = RouterTokens(key).issue()
    claims = jwt.decode(issued, options={"verify_signature": False})
    tokens = {
        "a client's": lab.people["ann"].token,
        "other key": RouterTokens(b"x" * 32).issue(),
        "none": f"{part({'alg': 'none'})}.{part(claims)}.",
        "expired": RouterTokens(key, clock=lambda: now - 2000).issue(),
        "of a clock far ahead": RouterTokens(key, clock=lambda: now + 120).issue(),
        "another audience": jwt.encode(claims | {"aud": "x"}, key, algorithm="HS256"),
        "no stream": jwt.encode(claims | {"sub": ""}, key, algorithm="HS256"),
    }
    method = Method(
        "/jumpstarter.v1.RouterService/Stream", Cardinality.STREAM_STREAM, pb.StatusRequest, pb.StatusRequest
    )
    credentials = grpc.ssl_channel_credentials(lab.people["ann"].ca.encode())
    with grpc.secure_channel(lab.process.more[-1], credentials) as channel:
        code, _ = lab.call(method, pb.StatusRequest(), [], channel)
        assert code is Code.UNAUTHENTICATED
        for what, token in tokens.items():
            code, details = lab.call(
                method, pb.StatusRequest(), [("authorization", f"Bearer {token}")], channel
            )
            assert code is Code.UNAUTHENTICATED, (what, details)
            assert len(details) > 15


@pytest.mark.parametrize("ahead", [-20.0, 20.0])
def test_clocks_of_controller_and_router_may_differ_a_little(ahead: float) -> None:
    key = bytes(32)
    token = RouterTokens(key, clock=lambda: 1_800_000_000.0 + ahead).issue()
    assert RouterTokens(key, clock=lambda: 1_800_000_000.0).admit(token)


def test_clocks_of_a_controller_and_its_copy_may_differ_a_little() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = Subject(Kind.CLIENT, "lab", "ann", "1")
    token, _ = TokenIssuer(key, "lab:8082", clock=lambda: 1_800_000_030.0).issue(subject)
    assert TokenIssuer(key, "lab:8082", clock=lambda: 1_800_000_000.0).verify(token)[0] == subject
