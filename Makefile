# make run    a shop on port 5555 and https://localhost:8443, with certificates, a sample catalog and a first customer
#             elsewhere: make run LISTEN=127.0.0.1:15555 WEB=127.0.0.1:18443; without the web: make run WEB=
# make test   the whole suite     make check   format, lint, types, imports, shell     make clean   (keeps certs/ and run/)
# make bench  the service beside its peers, into benchmarks/results.md (a quarter of an hour)     make bench-quick   in two minutes
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := run
LISTEN ?= 127.0.0.1:5555
WEB ?= 127.0.0.1:8443
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
WORKERS ?= 2
# Where the suite leaves its databases and logs, for the search for secrets that comes last.
LEFT := $(CURDIR)/.pytest_left

.DEFAULT_GOAL := help
.PHONY: help run test bench bench-quick check format clean

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-server: pyproject.toml $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $@

$(VENV)/.installed-bench: pyproject.toml $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.installed-server

$(VENV)/.installed-check: pyproject.toml $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[check]'
	@touch $@ $(VENV)/.installed-server $(VENV)/.installed-bench

run: $(VENV)/.installed-server
	@./gen_certs.sh
	@test -e certs/clients/alice.crt || ./gen_certs.sh client alice
	@mkdir -p $(RUN)
	@$(BIN)/securedelivery admin account create alice --role customer --if-missing --database sqlite:///$(RUN)/shop.db
	@printf '%s\n' '' 'In a second terminal, as the customer alice:' '' \
	  '  cd $(CURDIR)' \
	  '  . $(BIN)/activate' \
	  '  securedelivery profile set --server localhost:$(lastword $(subst :, ,$(LISTEN))) --ca certs/ca.crt --crl certs/crl.pem \' \
	  '      --cert certs/clients/alice.crt --key certs/clients/alice.key' \
	  '  securedelivery catalog graphics' \
	  '  securedelivery order place GPU-NV-4070S:1 --address "1 Analytical Row, London"' ''
	@test -z '$(WEB)' || printf '%s\n' 'In a browser that believes in certs/ca.crt (docs/web.md says how; others warn):' '' \
	  '  https://localhost:$(lastword $(subst :, ,$(WEB)))' ''
	@exec $(BIN)/securedelivery serve --listen $(LISTEN) --database sqlite:///$(RUN)/shop.db \
	  --catalog securedelivery/data/catalog.csv $(if $(WEB),--web $(WEB))

test: $(VENV)/.installed-check
	$(BIN)/coverage erase
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/test_secrets.py \
	  --basetemp $(LEFT) --cov --cov-report= $(PYTEST_FLAGS)
	LEFT_BEHIND=$(LEFT) $(BIN)/python -m pytest tests/test_secrets.py --cov --cov-append --cov-report= $(PYTEST_FLAGS)
	rm -rf $(LEFT)
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --include='securedelivery/protocol/*' --fail-under=100

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

bench-quick: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks --quick $(BENCH_FLAGS)

check: $(VENV)/.installed-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/shellcheck gen_certs.sh .ci/run

format: $(VENV)/.installed-check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(LEFT) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
