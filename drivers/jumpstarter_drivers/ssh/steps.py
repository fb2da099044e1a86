"""Steps of tests: `ssh.run`."""

from __future__ import annotations

from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.ssh.client import SSHWrapperClient

__all__ = ["run"]

SSH_FAILED = 255
"""ssh's own exit code."""


@step
async def run(client: SSHWrapperClient, context: StepContext, command: str, *, status: int | None = 0) -> str:
    """Run a command on the board by SSH; its output is the result. Any other exit status than `status` fails."""
    result = await client.run.aio(args=["-oBatchMode=yes", "--", command])
    output = str(result.stdout)
    for line in output.splitlines():
        context.say(line)
    if status is not None and result.return_code != status:
        said = str(result.stderr).strip().splitlines()
        reason = f": {shown(said[-1])}" if said else ""
        if result.return_code == SSH_FAILED:
            raise JumpstarterError(f"ssh to {client.path} failed{reason}")
        raise JumpstarterError(f"`{command}` ended with status {result.return_code}, not {status}{reason}")
    return output.strip()
