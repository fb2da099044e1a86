"""Generated messages and servicers of `jumpstarter.driver.serial.v1`, beside their .proto file."""
