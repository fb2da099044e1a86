"""Generated messages and servicers of `jumpstarter.driver.network.v1`, beside their .proto file."""
