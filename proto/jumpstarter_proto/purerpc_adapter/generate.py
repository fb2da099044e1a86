"""Generates the code of a driver interface: messages, type hints, purerpc's servicer and stub, and the descriptor.

    python -m jumpstarter_proto.purerpc_adapter.generate ROOT acme_fan/fan.proto

writes `fan_pb2.py`, `fan_pb2.pyi`, `fan_grpc.py` and `fan.binpb` beside the .proto file. ROOT is the folder that Python
imports the package from, and the file's path is relative to it. It needs grpcio-tools. purerpc's plugin can handle
`optional` fields but does not tell protoc so, which then refuses to run it; therefore it is run here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

__all__ = ["generate_messages", "generate_services", "main"]

OURS = Path(__file__).parents[2]
"""Where other .proto files find `jumpstarter_proto/annotations/annotations.proto`."""
_PLUGIN = "import sys; from purerpc.protoc_plugin.plugin import main; sys.exit(main())"


def generate_messages(root: Path, names: list[str], out: Path) -> descriptor_pb2.FileDescriptorSet:
    """Write the messages of .proto files and their type hints; give the descriptors of these and all that they import.

    Raises:
        SystemExit: protoc, which has said why, has failed.
    """
    from grpc_tools import protoc  # noqa: PLC0415 - a tool that users do not need

    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.NamedTemporaryFile(suffix=".pb") as image:
        arguments = ["protoc", *(f"-I{folder}" for folder in dict.fromkeys((root, OURS, well_known)))]
        arguments += [f"--python_out={out}", f"--pyi_out={out}"]
        arguments += [f"--descriptor_set_out={image.name}", "--include_imports", *names]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed; its message is above")
        return descriptor_pb2.FileDescriptorSet.FromString(Path(image.name).read_bytes())


def generate_services(files: descriptor_pb2.FileDescriptorSet, names: list[str], out: Path) -> None:
    """Write what purerpc's plugin makes of .proto files, and for each a `.binpb` file with its descriptor alone."""
    request = plugin_pb2.CodeGeneratorRequest(file_to_generate=names, proto_file=files.file)
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _PLUGIN], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True
    )
    for file in plugin_pb2.CodeGeneratorResponse.FromString(run.stdout).file:
        source = file.name.replace("_grpc.py", ".proto")
        docstring = f'"""Servicers and stubs of {source}, written by purerpc\'s plugin."""\n\n'
        (out / file.name).write_text(docstring + file.content.rstrip("\n") + "\n")
    for descriptor in files.file:
        if descriptor.name in names:
            alone = descriptor_pb2.FileDescriptorSet(file=[descriptor])
            (out / descriptor.name).with_suffix(".binpb").write_bytes(
                alone.SerializeToString(deterministic=True)
            )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder from which Python imports the package")
    parser.add_argument("files", nargs="+", help=".proto files, relative to it")
    given = parser.parse_args()
    generate_services(generate_messages(given.root, given.files, given.root), given.files, given.root)


if __name__ == "__main__":
    main()
