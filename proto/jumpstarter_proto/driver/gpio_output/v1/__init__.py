"""Generated messages and servicers of `jumpstarter.driver.gpio_output.v1`, beside their .proto file."""
