"""Generated messages and servicers of `jumpstarter.driver.composite.v1`, beside their .proto file."""
