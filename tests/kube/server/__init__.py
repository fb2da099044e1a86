"""A real Kubernetes API server for tests: how it is built (`build`), what one is (`cluster`), who keeps it (`hold`)."""
