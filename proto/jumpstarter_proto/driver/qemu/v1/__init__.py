"""Generated messages and servicers of `jumpstarter.driver.qemu.v1`, beside their .proto file."""
