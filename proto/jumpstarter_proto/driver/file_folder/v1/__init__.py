"""Generated messages and servicers of `jumpstarter.driver.file_folder.v1`, beside their .proto file."""
