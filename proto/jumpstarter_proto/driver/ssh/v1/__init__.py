"""Generated messages and servicers of `jumpstarter.driver.ssh.v1`, beside their .proto file."""
