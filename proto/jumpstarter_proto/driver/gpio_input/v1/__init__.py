"""Generated messages and servicers of `jumpstarter.driver.gpio_input.v1`, beside their .proto file."""
