"""Generated messages and servicers of `jumpstarter.driver.video.v1`, beside their .proto file."""
