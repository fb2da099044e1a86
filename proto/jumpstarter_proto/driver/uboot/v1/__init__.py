"""Generated messages and servicers of `jumpstarter.driver.uboot.v1`, beside their .proto file."""
