# Every target sets up what it needs by itself: a virtual environment in .venv, and Debian's packages where root may.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Two targets may both ask apt for packages.
.NOTPARALLEL:
.PHONY: help setup demo test test-kprobes lint bench bench-quick proto clean \
	debian-venv debian-demo debian-test debian-bench debian-kprobes

VENV := .venv
PYTHON := $(VENV)/bin/python
PACKAGES := lockflame sampler symbolize flame
PYTEST_ARGS ?=
BENCH_ARGS ?=

DEBIAN_VENV := python3-venv
DEBIAN_DEMO := $(DEBIAN_VENV) g++ libdw1 python3-bpfcc linux-headers-amd64
# Rust's own installer puts it elsewhere.
RUST := $(if $(shell command -v rustc),,rustc)
DEBIAN_TEST := $(DEBIAN_DEMO) $(RUST) binutils bpftrace dwz gcc golang-go linux-perf libc6-dbg musl-tools chromium fonts-dejavu-core \
	mariadb-server sysbench redis-server redis-tools postgresql postgresql-contrib valgrind
DEBIAN_BENCH := bpfcc-tools libbpf-tools linux-headers-amd64
DEBIAN_KPROBES := $(DEBIAN_DEMO) gcc qemu-system-x86 busybox-static

help:
	@echo "make demo         profile a small contended program for 5 s and show the result"
	@echo "make test         all tests"
	@echo "make test-kprobes lock waits by kprobes, on Debian's kernel in QEMU"
	@echo "make lint         ruff, pyright, import-linter; biome for JavaScript and CSS"
	@echo "make bench        side by side with perf, BCC, bpftrace, py-spy: benchmarks/RESULTS.md; bench-quick for a short look"
	@echo "make setup        only the set-up of all of these"
	@echo "make proto        lockflame/profile_pb2.py from lockflame/profile.proto"
	@echo "make clean        remove .venv and build"

setup: debian-test $(VENV)/.dev build/speedscope/index.html
	@# Compiles the lock probes, so that the first recording needn't.
	@$(VENV)/bin/lockflame doctor >/dev/null

demo: debian-demo $(VENV)/.run
	@scripts/demo.sh

# Two at a time where that disturbs nobody; the others watch the machine, and each needs it for itself.
test: setup
ifeq ($(PYTEST_ARGS),)
	@$(PYTHON) -m pytest -q -n 2 --dist loadscope -m "side_by_side or not integration"
	@$(PYTHON) -m pytest -m "integration and not side_by_side"
else
	@$(PYTHON) -m pytest $(PYTEST_ARGS)
endif

test-kprobes: debian-kprobes $(VENV)/.dev
	@$(PYTHON) -m tests.kprobes.truth

lint: debian-venv $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright
	@$(VENV)/bin/lint-imports
	@$(PYTHON) scripts/lint_scripts.py

bench: setup debian-bench
	@$(PYTHON) -m benchmarks $(BENCH_ARGS)

bench-quick: setup debian-bench
	@$(PYTHON) -m benchmarks --quick $(BENCH_ARGS)

proto: debian-venv $(VENV)/.dev
	@$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. lockflame/profile.proto

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis

debian-venv:
	@scripts/debian-packages.sh $(DEBIAN_VENV)

debian-demo:
	@scripts/debian-packages.sh $(DEBIAN_DEMO)

debian-test:
	@scripts/debian-packages.sh $(DEBIAN_TEST)

debian-bench:
	@scripts/debian-packages.sh $(DEBIAN_BENCH)

debian-kprobes:
	@scripts/debian-packages.sh $(DEBIAN_KPROBES)

# The stamps are apart so that the demo doesn't wait for the developers' tools.
$(VENV)/.run: pyproject.toml scripts/venv.sh | debian-venv
	@scripts/venv.sh $(VENV) .
	@touch $@

$(VENV)/.dev: pyproject.toml scripts/venv.sh | debian-venv
	@scripts/venv.sh $(VENV) '.[dev]'
	@touch $(VENV)/.run $@

# Without it one test is skipped.
build/speedscope/index.html: scripts/fetch_speedscope.py | $(VENV)/.dev
	@$(PYTHON) scripts/fetch_speedscope.py $(@D) && touch $@ || true
