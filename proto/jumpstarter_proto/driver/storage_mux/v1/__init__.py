"""Generated messages and servicers of `jumpstarter.driver.storage_mux.v1`, beside their .proto file."""
