"""Write the generated half of `jumpstarter_proto` from its .proto files.

`python proto/generate.py [OUT]` runs protoc for messages and type hints, and writes one `*_grpc.py` for each
file with services. Those of Jumpstarter's own protocol are typed stubs and servicers for `jumpstarter_proto.rpc`. Those
of driver interfaces (`driver/`) are what purerpc's protoc plugin writes, with a `.binpb` file beside them: the
descriptor of the .proto file, which an exporter reports without loading any of it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # it is of this tree, whether that is installed or not

from jumpstarter_proto.purerpc_adapter.generate import generate_messages, generate_services  # noqa: E402

PROTO_FILES = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("jumpstarter_proto/**/*.proto"))
INTERFACES = [name for name in PROTO_FILES if name.startswith("jumpstarter_proto/driver/")]

HEADER = '''"""Typed stubs and servicers of {source}; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

{imports}
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer
'''


def main(out: Path) -> None:
    """Generate every file below `out`, laid out as the package is."""
    files = generate_messages(ROOT, PROTO_FILES, out)
    homes = {f".{file.package}.{m.name}": file.name for file in files.file for m in file.message_type}
    for file in files.file:
        if file.name in PROTO_FILES and file.name not in INTERFACES and file.service:
            target = out / file.name.replace(".proto", "_grpc.py")
            target.write_text(_service_module(file, homes))
    generate_services(files, INTERFACES, out)


def _service_module(file: descriptor_pb2.FileDescriptorProto, homes: dict[str, str]) -> str:
    used = {m.input_type for s in file.service for m in s.method}
    used |= {m.output_type for s in file.service for m in s.method}
    modules = sorted({homes[name] for name in used})
    imports = "\n".join(f"from {m.rpartition('/')[0].replace('/', '.')} import {_module(m)}" for m in modules)

    def python_type(name: str) -> str:
        return f"{_module(homes[name])}.{name.rpartition('.')[2]}"

    parts = [HEADER.format(source=file.name, imports=imports)]
    for service in file.service:
        full_name = f"{file.package}.{service.name}"
        rows = [
            (
                m.name,
                _constant(service.name, m.name),
                m,
                python_type(m.input_type),
                python_type(m.output_type),
            )
            for m in service.method
        ]
        parts.append("")
        for name, constant, m, request, response in rows:
            parts.append(
                f"{constant} = Method(\n"
                f'    "/{full_name}/{name}",\n'
                f"    Cardinality.{_cardinality(m)},\n"
                f"    {request},\n"
                f"    {response},\n"
                ")"
            )
        parts.append(
            f"\n\nclass {service.name}Stub:\n"
            f'    """Calls {full_name} over a channel."""\n\n'
            "    def __init__(self, channel: Caller) -> None:\n"
            "        self._channel = channel"
        )
        for name, constant, m, request, response in rows:
            parts.append("\n" + _stub_method(name, constant, m, request, response))
        parts.append(
            f'\n\nclass {service.name}Servicer(Servicer):\n    """Handles {full_name}; override what you serve."""'
        )
        for name, _, m, request, response in rows:
            parts.append("\n" + _servicer_method(name, m, request, response))
        constants = ", ".join(constant for _, constant, *_ in rows)
        parts.append(f"\n    METHODS = ({constants}{',' if len(rows) == 1 else ''})")
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _stub_method(
    name: str, constant: str, m: descriptor_pb2.MethodDescriptorProto, request: str, response: str
) -> str:
    options = "*, timeout: float | None = None, metadata: Metadata = ()"
    passed = "timeout=timeout, metadata=metadata"
    if m.client_streaming:
        return (
            f"    def {name}(\n        self, {options}\n"
            f"    ) -> AbstractAsyncContextManager[ClientCall[{request}, {response}]]:\n"
            f"        return self._channel.stream({constant}, {passed})"
        )
    if m.server_streaming:
        return (
            f"    def {name}(\n        self, request: {request}, {options}\n"
            f"    ) -> AbstractAsyncContextManager[ClientCall[{request}, {response}]]:\n"
            f"        return self._channel.server_stream({constant}, request, {passed})"
        )
    return (
        f"    async def {name}(\n        self, request: {request}, {options}\n"
        f"    ) -> {response}:\n"
        f"        return await self._channel.unary({constant}, request, {passed})"
    )


def _servicer_method(name: str, m: descriptor_pb2.MethodDescriptorProto, request: str, response: str) -> str:
    argument = "" if m.client_streaming else f"request: {request}, "
    result = "None" if m.server_streaming else response
    return (
        f"    async def {name}(self, {argument}call: ServerCall[{request}, {response}]) -> {result}:\n"
        f'        raise self.unimplemented("{name}")'
    )


def _cardinality(m: descriptor_pb2.MethodDescriptorProto) -> str:
    request = "STREAM" if m.client_streaming else "UNARY"
    return f"{request}_{'STREAM' if m.server_streaming else 'UNARY'}"


def _constant(service: str, method: str) -> str:
    return "_".join(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).upper() for word in (service, method))


def _module(proto: str) -> str:
    return proto.rpartition("/")[2].replace(".proto", "_pb2")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
