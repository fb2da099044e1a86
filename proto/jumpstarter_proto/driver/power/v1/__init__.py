"""Generated messages and servicers of `jumpstarter.driver.power.v1`, beside their .proto file."""
