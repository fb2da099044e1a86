# Two commands do everything: `make demo` and `make test`. Both set up what they need, once.
# Another Python: `make PYTHON=python3.12 demo`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types check mutants orders fuzz bench kube-server kube-test install-test fresh deb deb-test image image-test \
  image-cuts proto clean

help:
	@echo 'make demo    try everything on virtual boards, no hardware needed'
	@echo 'make test    run all tests'
	@echo 'make check   lint and types'
	@echo 'make mutants FOLDER=...   remove limits, filters and clean-up there one at a time, and name what no test notices'
	@echo 'make orders  5 MB through each kind of stream in a thousand random orders of ends, delays and resets; ORDERS=1000'
	@echo 'make fuzz    random bytes for what parses those of peers, SECONDS=600 for each target; TARGETS=... for some'
	@echo 'make fresh   as root: both on a fresh Debian 12 and 13, as a plain user; RELEASE=13 for one of them'
	@echo 'make deb     Debian packages of the last commit, for Debian 12 and 13, amd64 and arm64, in dist/deb'
	@echo 'make deb-test   as root: install, use, upgrade and remove them in fresh Debians; RELEASE=13 for one of them'
	@echo 'make image   the image for Raspberry Pis, from the packages in dist/deb; ARCHITECTURE=amd64 LEVEL=0 for the PC build that tests boot'
	@echo 'make image-test   boot the PC build in an emulator, from power to the first board in the lab'
	@echo 'make image-cuts   as root: a thousand power cuts of an emulated host, of which ten are booted; CUTS_ARGS=--help'
	@echo 'make bench   measure against Jumpstarter 0.9.0 and grpcio, and what a controller costs, in Kubernetes too'
	@echo 'make kube-test   what a Kubernetes API server is needed for; builds one, once, with Go in 13 minutes of a processor'
	@echo 'make install-test   install wheel and sdist with pip and pipx, for each Python from 3.11 to 3.13 that is here'
	@echo 'make proto   generate code from the .proto files again'
	@echo 'make clean   remove the virtual environment and caches'

# In a lab that is there: DEMO_ARGS='--lab FOLDER --namespace NAME'.
demo: $(VENV)/.ready-run
	@$(BIN)/python -m tools.demo $(DEMO_ARGS)

# Of tests/kube all with PYTEST_ARGS, else a few, so that it stays below eight minutes.
test: $(VENV)/.ready-dev
	$(if $(PYTEST_ARGS),,JUMPSTARTER_TEST_KUBE=few )$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

check: lint types

# More tests than the folder's own: TESTS='tests/faults tests/e2e'. MUTANTS_ARGS=--help shows the rest.
mutants: $(VENV)/.ready-dev
	@$(BIN)/python -m tools.mutants $(FOLDER) $(foreach path,$(TESTS),--tests $(path)) $(MUTANTS_ARGS)

SECONDS ?= 600
ORDERS ?= 1000
orders: $(VENV)/.ready-dev
	@JUMPSTARTER_TEST_ORDERS=$(ORDERS) JUMPSTARTER_TEST_ORDER_BYTES=5000000 $(BIN)/python -m pytest tests/faults/test_bytes.py \
	  -q -n 0 -o log_cli=true -o log_cli_level=INFO | grep -E ': [0-9]+ orders|passed|failed|^order'

fuzz: $(VENV)/.ready-dev
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

bench: $(VENV)/.ready-dev
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

# Kept in ~/.cache/jumpstarter-kube; with it, `make test` runs the most important of these tests, too.
kube-server: $(VENV)/.ready-dev
	@$(BIN)/python -m tests.kube.server.build
	@$(BIN)/python -m tests.kube.helm.build

kube-test: kube-server
	JUMPSTARTER_TEST_KUBE=all $(BIN)/python -m pytest tests/kube $(PYTEST_ARGS)

# Everything comes from the package index, in new environments.
install-test: $(VENV)/.ready-dev
	@JUMPSTARTER_TEST_INSTALL=1 $(BIN)/python -m pytest -n 0 -rs tests/packaging/test_install.py $(PYTEST_ARGS)

# PYTEST_ARGS goes to its `make test`; FRESH_ARGS are options of tools/fresh: --quiet, --limit SECONDS, --optional.
fresh:
	@PYTEST_ARGS='$(PYTEST_ARGS)' tools/fresh $(FRESH_ARGS) $(RELEASE)

# DEB_ARGS are options of its `build`: --release, --architecture, --package, --version, --level, --output.
deb: $(VENV)/.ready-dev
	@$(BIN)/python -m jumpstarter_deb build $(DEB_ARGS)

# As root: RELEASE=13 for one of them.
deb-test: $(VENV)/.ready-dev
	@JUMPSTARTER_TEST_PACKAGES=1 RELEASE='$(or $(RELEASE),12 13)' \
	  $(BIN)/python -m pytest -n 0 images/tests/packages $(PYTEST_ARGS)

ARCHITECTURE ?= arm64
LEVEL ?= 12
image: $(VENV)/.ready-dev
	@$(BIN)/python -m jumpstarter_os $(ARCHITECTURE) --level $(LEVEL) --debs dist/deb

# In a network namespace without a way out, where the guest's address for this machine is the loopback's, too.
image-test: $(VENV)/.ready-dev
	@unshare --net $(if $(filter 0,$(shell id -u)),,--map-root-user) sh -c 'PATH=$$PATH:/usr/sbin:/sbin; \
	  ip link set lo up && ip address add 10.0.2.2/32 dev lo && \
	  JUMPSTARTER_TEST_IMAGE=dist exec $(BIN)/python -m pytest -n 0 images/tests/boot $(PYTEST_ARGS)'

# In a mount namespace, too, so that nothing stays mounted. Without root it reads file systems without mounting them.
image-cuts: $(VENV)/.ready-dev
	@unshare --net --mount $(if $(filter 0,$(shell id -u)),,--map-root-user) sh -c 'PATH=$$PATH:/usr/sbin:/sbin; \
	  ip link set lo up && ip address add 10.0.2.2/32 dev lo && \
	  PYTHONPATH=images/tests:images/tests/boot exec $(BIN)/python -m cuts $(CUTS_ARGS)'

proto: $(VENV)/.ready-dev
	$(BIN)/python proto/generate.py

# Each stamp is newer than what it was made from, so the second run does nothing.
$(VENV)/.ready-venv:
	@tools/make-venv '$(PYTHON)' '$(VENV)'
	@touch $@

$(VENV)/.ready-run: $(VENV)/.ready-venv pyproject.toml
	@echo 'Installing jumpstarter-sbc into $(VENV) (once; about a minute)'
	@$(BIN)/python tools/pip_install.py --editable '.[exporter,controller,pexpect]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-run
	@echo 'Installing what the tests need into $(VENV) (once; about a minute)'
	@$(BIN)/python tools/pip_install.py --group dev
	@touch $@

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
