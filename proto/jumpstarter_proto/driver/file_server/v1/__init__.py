"""Generated messages and servicers of `jumpstarter.driver.file_server.v1`, beside their .proto file."""
