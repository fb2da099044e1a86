"""Who the objects of a lab in Kubernetes are: their Secrets with tokens, and what their status says of these."""
