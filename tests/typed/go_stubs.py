"""Write the Go code in `go/board` again from the .proto files: `python -m tests.typed.go_stubs`. Needs Go.

The plugins' versions are those whose code Go 1.19 can build.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from grpc_tools import protoc

from tests.support.peers import ROOT

FOLDER = Path(__file__).parent / "go" / "board"
NAMES = sorted(path.name.removesuffix("_grpc.pb.go") for path in FOLDER.glob("*_grpc.pb.go"))
PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.33.0",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.4.0",
)


def main() -> None:
    """Write every file of `NAMES`."""
    files = [f"jumpstarter_proto/driver/{name}/v1/{name}.proto" for name in NAMES]
    packages = ",".join(f"M{file}=./;main" for file in files)
    with tempfile.TemporaryDirectory() as folder:
        for plugin in PLUGINS:
            subprocess.run(
                ["go", "install", plugin], cwd=folder, env=os.environ | {"GOBIN": folder}, check=True
            )
        options = [f"--plugin={folder}/protoc-gen-{name}" for name in ("go", "go-grpc")]
        for name in ("go", "go-grpc"):
            options += [f"--{name}_out={FOLDER}", f"--{name}_opt={packages}"]
        known = Path(protoc.__file__).parent / "_proto"
        if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{known}", *options, *files]) != 0:
            raise SystemExit("protoc failed; its message is above")


if __name__ == "__main__":
    main()
