# rowfleet: `make demo` and `make test` need Python 3.11 or newer and make; they set up .venv themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUNTIME := $(VENV)/.runtime
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo test verify mutants simulate replay fuzz lint hadolint types imports check checkov terraform-check image \
  sbom update-base release-check release-image endpoint-image json-schema lock chaos bench bench-memory bench-limits bench-peers \
  bench-calls bench-head-of-line bench-remap bench-reuse bench-roles bench-run bench-steering cost clean help
.DEFAULT_GOAL := help

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

# The environment is made once. `make demo` needs only the packages of the service and of the embedded endpoint.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rowfleet needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=…")'
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/local.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV)/, once (versions and hashes: requirements/local.txt):"
	@sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' requirements/local.txt | paste -sd ' ' | fold -sw 108 | sed 's/^/  /'
	@$(PIP) --require-hashes -r requirements/local.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(READY): requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $(RUNTIME) $@

setup: $(READY) ## create .venv from the hash-locked requirements

demo: $(RUNTIME) ## the service as on AWS, on this machine, with a real file
	@$(BIN)/python examples/demo.py

# Every test runs either in `test` or in `verify`. The acceptance tests start first because they take longest;
# the quick files at the end keep all workers busy.
LONG = verify or docker or terraform
test: $(READY) ## all tests that are quick
	@$(BIN)/python -m pytest -m "not ($(LONG))" -n 3 --dist loadscope --no-loadscope-reorder tests/acceptance tests

verify: $(READY) ## the long tests: thousands of simulated worlds, chaos, containers, Terraform, a full disk, the wheel, many examples
	@$(BIN)/python -m pytest -m "$(LONG)"
	@$(BIN)/python -m pytest -m "hypothesis and not ($(LONG))" --hypothesis-profile=thorough -n 2

mutants: $(READY) ## small changes that break a promise, each of which a test must notice
	@$(BIN)/python -m tests.mutation

SEEDS ?= 2000
START ?= 0
JOBS  ?= 2
simulate: $(READY) ## many simulated worlds (SEEDS=100000 for a night; START=, JOBS=)
	@$(BIN)/python -m tests.simulation.simulate --seeds $(SEEDS) --start $(START) --jobs $(JOBS)

replay: $(READY) ## one simulated world, step by step (SEED=123)
	@$(BIN)/python -m tests.simulation.simulate --seed $(SEED) --ablation "$(ABLATION)" --trace

FUZZ_EXAMPLES ?= 1000
fuzz: $(READY) ## a minute of arbitrary files and replies (FUZZ_EXAMPLES=100000 for a night)
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --hypothesis-profile=fuzz --timeout 0 \
	  tests/unit/mapping/test_fuzz.py tests/unit/mapping/replies/test_normalise_properties.py \
	  tests/unit/agents/wire/streams/test_fuzz_streams.py

SECONDS ?= 60
TIMES ?= 10
ROWS ?= 5000
WORKERS ?= 3
SEED ?= 1
OPTIONS ?=
chaos: $(READY) ## real processes, real kills, spoiled calls, operations: SECONDS=60 TIMES=10 ROWS=5000 WORKERS=3 SEED=1
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) --times $(TIMES) --rows $(ROWS) --workers $(WORKERS) \
	  --seed $(SEED) $(OPTIONS)

lint: hadolint ## ruff, hadolint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

hadolint: $(READY)
	@$(BIN)/hadolint Dockerfile tests/container/endpoint.Dockerfile

types: $(READY) ## mypy, strict
	@$(BIN)/mypy

imports: $(READY) ## the import rules
	@$(BIN)/lint-imports --no-cache

check: lint types imports test ## what a change needs; CI runs fuzz, verify and mutants as well

# What builds differ in from machine to machine is taken from the environment, by name, so that nothing of it
# stands in a file or on a command line. BUILD_FLAGS="--network host" for an engine without a way out.
# An image for several platforms is an index, which the engine's own store may not hold: it is pushed at once.
# Attestations would make an index of every image, and Lambda runs none.
IMAGE ?= rowfleet
PLATFORM ?=
comma := ,
BASE = $(or $(PYTHON_IMAGE),$(shell sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile | head -1))
BUILD_ARGS := PYTHON_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT SOURCE
BUILD = BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker $(if $(findstring $(comma),$(PLATFORM)),buildx build --push,build) \
  $(if $(PLATFORM),--platform $(PLATFORM)) $(BUILD_FLAGS) \
  $(foreach name,$(BUILD_ARGS),$(if $($(name)),--build-arg $(name)))
image: ## the container image (IMAGE=name, PLATFORM=linux/arm64, PYTHON_IMAGE, PIP_INDEX_URL)
	$(BUILD) --tag $(IMAGE) \
	  --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null) \
	  --build-arg CREATED=$$(git show --no-patch --format=%cI 2>/dev/null) \
	  --build-arg BASE_DIGEST=$(word 2,$(subst @, ,$(BASE))) .

sbom: ## sbom.json: the packages in the image, as CycloneDX (IMAGE=name)
	docker run --rm --network none --entrypoint cat $(IMAGE) /opt/rowfleet/sbom.json >sbom.json

update-base: ## pin the base image to the digest that its tag has now
	@$(PYTHON) infra/image.py update-base

release-check: ## what has to hold before a release: base image by digest, version, changelog, tag
	@$(PYTHON) infra/image.py check-release --base $(BASE) --image $(IMAGE)

release-image: release-check ## the image of a release (IMAGE=registry/rowfleet:VERSION, PLATFORM=linux/arm64,linux/amd64)
	@$(MAKE) --no-print-directory image

endpoint-image: # what tests/container uses for AWS
	$(BUILD) --tag $(IMAGE) --file tests/container/endpoint.Dockerfile requirements

# An environment of its own: checkov pins another boto3 than the embedded endpoint does.
CHECKOV := $(VENV)/checkov
$(CHECKOV)/.ready: $(READY) requirements/checkov.txt
	@test -x $(CHECKOV)/bin/python || $(PYTHON) -m venv $(CHECKOV)
	$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/checkov.txt
	@touch $@

checkov: $(CHECKOV)/.ready ## install the scanner of the Terraform module

terraform-check: $(CHECKOV)/.ready ## the Terraform module: form, validity, its own tests, checkov
	@REQUIRE_TERRAFORM=1 $(BIN)/python -m pytest tests/infra/test_terraform_module.py

bench: $(READY) ## rows per second, calls per row, memory: ratios in one run
	@$(BIN)/python benchmarks/pipeline.py

bench-run: $(READY) ## `rowfleet run` beside a plain asyncio script: rows per second, CPU, start-up, as ratios in one run
	@$(BIN)/python benchmarks/run.py

bench-memory: $(READY) ## memory of worker (deep queue, large replies), splitter, aggregator and sweeper, against their bounds
	@$(BIN)/python benchmarks/memory

# Environments of their own: arq needs an older client of Redis than the others.
PEERS := $(VENV)/bench
$(PEERS)/.ready: $(READY) requirements/bench.txt requirements/bench-arq.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@test -x $(PEERS)/arq/bin/python || $(PYTHON) -m venv $(PEERS)/arq
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	$(PEERS)/arq/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench-arq.txt
	@touch $@

PEER_OPTIONS ?=
bench-peers: $(PEERS)/.ready ## the same job by a plain script, taskiq, arq, dramatiq, Celery and rowfleet (needs redis-server)
	@$(BIN)/python benchmarks/peers --python $(PEERS)/bin/python --arq-python $(PEERS)/arq/bin/python $(PEER_OPTIONS)

bench-limits: $(READY) ## rate_limit across workers that die and join, at an agent that enforces it
	@$(BIN)/python benchmarks/limits.py

bench-head-of-line: $(READY) ## a quick agent behind one that never answers, in one worker
	@$(BIN)/python benchmarks/head_of_line.py

bench-reuse: $(READY) ## calls and seconds with and without reuse, 30 % duplicates
	@$(BIN)/python benchmarks/reuse.py

bench-roles: $(READY) ## CPU time of splitter and aggregator for each row, up to a million rows, beside a plain loop
	@$(BIN)/python benchmarks/roles.py

bench-remap: $(READY) ## CPU time of a remap beside that of the extraction alone, for each row
	@$(BIN)/python benchmarks/remap.py

bench-steering: $(READY) ## from a pause to the last call, from a resume or redrive of 100,000 rows to the first
	@$(BIN)/python benchmarks/steering.py

CALLS_OPTIONS ?=
bench-calls: $(READY) ## calls of AWS for each row with the settings of production (CALLS_OPTIONS="--seconds 30 --rows 960")
	@$(BIN)/python benchmarks/calls.py $(CALLS_OPTIONS)

PRICES ?= benchmarks/cost/prices.json
cost: $(RUNTIME) ## the bill of a run and of a month at rest (ROWS=1000000 SECONDS=2 BYTES=1024 PRICES=file)
	@$(BIN)/python -m benchmarks.cost --prices $(PRICES) $(if $(filter command,$(origin ROWS)),--rows $(ROWS)) \
	  $(if $(filter command,$(origin SECONDS)),--seconds $(SECONDS)) $(if $(BYTES),--bytes $(BYTES)) $(OPTIONS)

json-schema: $(READY) ## JSON Schemas of mapping and schema files, for editors
	@for kind in mapping schema; do \
	  $(BIN)/python -m service.mapping.json_schema $$kind >$(VENV)/schema.json && \
	  cp $(VENV)/schema.json docs/schema/$$kind.json || exit; \
	done

lock: ## resolve requirements/*.txt anew, run time and development together
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header --extra local --extra dev \
	  -o requirements/dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -c requirements/dev.txt \
	  -o requirements/runtime.txt pyproject.toml
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -c requirements/dev.txt --extra local \
	  -o requirements/local.txt pyproject.toml
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -c requirements/dev.txt --only-build-deps \
	  --build-deps-for wheel --build-deps-for editable -o requirements/build.txt pyproject.toml
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -o requirements/checkov.txt requirements/checkov.in
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -o requirements/sbom.txt requirements/sbom.in
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -c requirements/dev.txt --extra bench \
	  -o requirements/bench.txt pyproject.toml
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-options --no-header -o requirements/bench-arq.txt requirements/bench-arq.in

clean: ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis dist build demo-output
