# Campaign Bridge. `make help` lists the commands.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
WORKERS ?= 3
RUN := $(VENV)/bin/python

.PHONY: help demo test test-compose unit faults docs lint bench kafka-up kafka-down lock clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(VENV)/ready: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@command -v java >/dev/null || { echo "Java 17 or newer is needed (Debian: apt-get install openjdk-17-jre-headless)"; exit 1; }
	@command -v mvn >/dev/null || { echo "Maven is needed (Debian: apt-get install maven)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@

demo: $(VENV)/ready ## Show it working: Kafka, both sandbox systems, all services. EXIT=1 ends by itself
	@exec $(RUN) -m sandbox.demo $(if $(EXIT),--exit,)

test: $(VENV)/ready ## Run all tests (real Kafka, registry, Chromium and promtool included)
	@bash .ci/tools chromium npm promtool
	@exec $(RUN) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-compose: $(VENV)/ready ## Run image and compose file for real (Docker; as root on Debian it installs what is missing)
	@exec $(RUN) -m tests.compose.run

unit: $(VENV)/ready ## Run the tests that need nothing but Python
	@exec $(RUN) -m pytest tests/unit tests/flow $(ARGS)

faults: $(VENV)/ready ## Run all fault tests (`make test` runs some; BRIDGE_SEED=<number> for other moments)
	@BRIDGE_FAULTS=all exec $(RUN) -m pytest tests/faults -n $(WORKERS) --dist worksteal $(ARGS)

docs: $(VENV)/ready ## Write settings, metrics and rooms from the code into docs/
	@exec $(RUN) -m tests.generate_docs

lint: $(VENV)/ready ## Check style and types
	@$(VENV)/bin/ruff check . && $(VENV)/bin/mypy

bench: $(VENV)/ready ## Run the benchmarks (about 25 minutes, alone on the machine)
	@exec $(RUN) -m benchmarks --json .run/bench.json $(ARGS)

kafka-up: $(VENV)/ready ## Start a local Kafka (localhost:9092) and schema registry (localhost:8081)
	@$(RUN) -m sandbox.kafka up

kafka-down: $(VENV)/ready ## Stop them
	@$(RUN) -m sandbox.kafka down

lock: ## Resolve requirements*.lock again from pyproject.toml
	@$(PYTHON) -m venv .run/lock && .run/lock/bin/pip install --quiet pip-tools
	@for extra in "" "--extra dev"; do \
	  .run/lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
	    --no-emit-trusted-host $$extra --output-file requirements$${extra:+-dev}.lock pyproject.toml; done

clean: ## Remove the virtual environment and everything that was downloaded or written
	rm -rf $(VENV) .run var
