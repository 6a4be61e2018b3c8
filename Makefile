# One command for each verb. Everything that these need is installed by them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export PYTHONPATH := operator:sandbox

.PHONY: help
help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort | expand -t 16

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready  ## Install the locked Python packages into .venv

.PHONY: demo
demo: setup  ## The main job on a real control plane: a good release, then a bad one that is reverted
	@$(RUN) -m wavegate_sandbox.demo

# Three files at a time, each on a control plane of its own: the tests mostly wait. (Four load two
# cores so much that operators lose their leases.) One at a time on a cluster that they share.
SIDE_BY_SIDE := $(if $(WAVEGATE_KUBECONFIG),,-n 3 --dist loadfile --no-loadscope-reorder)

# Before the tests and not in them: a compiler beside them takes the processor from machines that
# must renew their leases.
.PHONY: tools
tools: setup  ## Compile the tools of the sandbox and of the tests, if they are not in the cache
	$(RUN) -m wavegate_sandbox build --all

.PHONY: test
test: $(if $(WAVEGATE_KUBECONFIG),setup,tools)  ## All tests: unit, then end to end on the real control plane
	$(RUN) -m pytest $(SIDE_BY_SIDE)

.PHONY: test-unit
test-unit: setup  ## Only the tests that need no control plane
	$(RUN) -m pytest tests/unit

.PHONY: test-argocd
test-argocd: tools  ## With the real Argo CD, which is compiled first if it is not in the cache: 17 minutes
	@command -v redis-server >/dev/null || { echo 'Argo CD needs redis-server: apt-get install redis-server'; exit 1; }
	$(RUN) -m wavegate_sandbox build argocd
	WAVEGATE_ARGOCD_QUIET=600 $(RUN) -m pytest tests/gitops

.PHONY: node-tools
node-tools: setup
	$(RUN) -m wavegate_sandbox build kubelet containerd containerd-shim-runc-v2 runc

.PHONY: test-node
test-node: tools node-tools  ## With a real node (kubelet, containerd, runc), compiled first if need be; needs root: 8 minutes
	$(RUN) -m pytest -rs tests/e2e/test_real_node.py

KUBERNETES := 1.34
.PHONY: test-minor
test-minor: setup  ## End to end on another minor of Kubernetes (KUBERNETES=1.34), built from source first
	WAVEGATE_KUBERNETES=$(KUBERNETES) $(RUN) -m wavegate_sandbox build --all
	WAVEGATE_KUBERNETES=$(KUBERNETES) $(RUN) -m pytest -rs $(SIDE_BY_SIDE) tests/e2e

.PHONY: renders
renders: setup  ## Write anew what is made of the chart and of the Argo CD pack: examples/, tests/e2e/renders/
	@WAVEGATE_WRITE_RENDERS=1 $(RUN) -m pytest -q tests/e2e/test_renders.py tests/unit/test_argocd_pack.py

.PHONY: bench
bench: setup  ## How long one pass takes at 100 to 10,000 nodes, as a table
	@PYTHONPATH=operator:tests $(RUN) -m bench

.PHONY: record
record: setup  ## Record anew what the simulation is held against (tests/simulation/README.md)
	WAVEGATE_RECORD=1 $(RUN) -m pytest tests/e2e/test_fidelity.py

.PHONY: bench-rollout
bench-rollout: setup  ## What a good and a bad rollout on 5,000 simulated nodes cost, and how long they take
	@PYTHONPATH=operator:tests $(RUN) -m simulation.large 5000

.PHONY: bench-fence
bench-fence: setup  ## How long from a sign of harm to the stored fence, on a sandbox of 40 nodes
	@PYTHONPATH=operator:sandbox:tests $(RUN) -m bench.fences --nodes 40

.PHONY: bench-failover
bench-failover: setup  ## How long nobody leads after a leader was killed, on a sandbox of 40 nodes
	@PYTHONPATH=operator:sandbox:tests $(RUN) -m bench.failover

.PHONY: bench-memory
bench-memory: setup  ## What memory the operator takes at 40 to 10,000 nodes
	@PYTHONPATH=operator:sandbox:tests $(RUN) -m bench.memory

SECONDS := 600
.PHONY: soak
soak: setup  ## Random stories on the simulated cluster, with fresh seeds, for SECONDS (default 600)
	@PYTHONPATH=operator:tests $(RUN) -m simulation.soak --seconds $(SECONDS)

.PHONY: lint
lint: setup  ## ruff, mypy strict, import-linter
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

.PHONY: format
format: setup  ## Format the Python files
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

.PHONY: sandbox
sandbox: setup  ## Start a control plane that keeps running, and print how to use it
	@$(RUN) -m wavegate_sandbox up

.PHONY: sandbox-down
sandbox-down: setup  ## Stop what `make sandbox` started
	@$(RUN) -m wavegate_sandbox down

.PHONY: lock
lock: setup  ## Resolve the Python packages again and write the lock files with hashes
	$(RUN) -m pip install --quiet uv
	$(VENV)/bin/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	$(VENV)/bin/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock
