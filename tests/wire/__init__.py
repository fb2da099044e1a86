"""Our wire contract against Jumpstarter's published one."""
