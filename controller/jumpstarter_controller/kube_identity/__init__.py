"""The identities of a lab in Kubernetes: Secrets with tokens, and the status of these tokens."""
