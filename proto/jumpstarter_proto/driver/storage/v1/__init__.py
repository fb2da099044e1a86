"""Generated messages and servicers of `jumpstarter.driver.storage.v1`, beside their .proto file."""
