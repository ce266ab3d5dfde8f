# pycontain: everything starts here. `make demo` and `make test` do all their own set-up; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
STAMP := $(VENV)/.built
C_SOURCES := $(wildcard src/c/*.c src/c/*.h src/c/*.txt) setup.py build_ffi.py pyproject.toml pycontain/_version.py

.DEFAULT_GOAL := help
.PHONY: help build demo test test-unit test-kernel test-vm test-clients test-c soak lint types format fuzz cross bench wheel clean system peers

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

system: ## system packages for building (root), or what to ask root for
	@tests/peers/system.sh

$(VENV)/.created: pyproject.toml
	@tests/peers/system.sh
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade pip
	@$(BIN)/python -m pip install -q "setuptools>=77" "cffi>=1.16" wheel
	@touch $@

$(STAMP): $(VENV)/.created $(C_SOURCES)
	@echo "building the extension and the static programs (log: $(VENV)/build.log)"
	@$(BIN)/python -m pip install -q --no-build-isolation --config-settings editable_mode=compat -e . >$(VENV)/build.log 2>&1 \
		|| { cat $(VENV)/build.log; exit 1; }
	@$(BIN)/python -m compileall -q pycontain
	@$(BIN)/pycontain --version
	@touch $@

build: $(STAMP) ## .venv/bin/pycontain, ready to use

demo: build ## run a first container and see what happened, and how long the start took
	@$(BIN)/python -m bench.demo

$(VENV)/.tools: $(STAMP)
	@echo "installing the test tools (log: $(VENV)/tools.log)"
	@$(BIN)/python -m pip install -q --no-build-isolation --config-settings editable_mode=compat -e ".[test,bench]" >$(VENV)/tools.log 2>&1 \
		|| { cat $(VENV)/tools.log; exit 1; }
	@$(BIN)/python -c "import pytest, mypy, hypothesis, isal"
	@touch $@

peers:
	@tests/peers/install.sh

test: $(VENV)/.tools peers lint types test-c fuzz cross ## everything: lint, types, C, unit, kernel, VM, other people's clients
	$(PYTEST) tests

test-unit: $(VENV)/.tools ## the quick loop: no root, no network, seconds
	$(PYTEST) -q tests/unit

test-kernel: $(VENV)/.tools peers ## namespaces, cgroups, mounts (root)
	$(PYTEST) tests/kernel

test-vm: $(VENV)/.tools peers ## the cgroup v2 virtual machine (QEMU)
	$(PYTEST) tests/vm

test-clients: $(VENV)/.tools peers ## the command line and images made by other tools (root)
	$(PYTEST) tests/clients

soak: $(VENV)/.tools ## ten thousand containers, each started, looked into, stopped and removed (root, a quarter of an hour)
	PYCONTAIN_SOAK=10000 $(PYTEST) -q tests/kernel/test_soak.py

test-c: peers ## C unit tests: plain, with ASan and UBSan, and -fanalyzer
	cmake -S . -B build/c >/dev/null && cmake --build build/c -j2 >/dev/null
	ctest --test-dir build/c --output-on-failure
	cmake -S . -B build/c-san -DPC_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug >/dev/null && cmake --build build/c-san -j2 >/dev/null
	ctest --test-dir build/c-san --output-on-failure
	cmake -S . -B build/c-analyze -DPC_ANALYZE=ON >/dev/null && cmake --build build/c-analyze -j2 --target pycontain_core pycontain-init pycontain-guardian pycontain-exec pycontain-enter pycontain-launch pycontain-monitor >/dev/null

fuzz: peers ## libFuzzer on the Plan decoder and on the unpacker, 20 seconds each from the corpora in the repository
	CC=clang cmake -S . -B build/c-fuzz -DPC_FUZZ=ON -DCMAKE_C_COMPILER=clang >/dev/null && cmake --build build/c-fuzz -j2 >/dev/null
	mkdir -p build/fuzz-corpus build/fuzz-corpus-tar
	cd build && ./c-fuzz/tests/c/fuzz_plan -max_total_time=20 -verbosity=0 -print_final_stats=1 -dict=../tests/c/plan.dict fuzz-corpus ../tests/c/corpus
	cd build && ./c-fuzz/tests/c/fuzz_tar -max_total_time=20 -verbosity=0 -print_final_stats=1 -max_len=16384 -dict=../tests/c/tar.dict \
		fuzz-corpus-tar ../tests/c/corpus_tar

cross: peers ## compile and link everything for aarch64
	cmake -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake >/dev/null && cmake --build build/aarch64 -j2 >/dev/null

lint: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	shellcheck tests/peers/*.sh .ci/run

types: $(VENV)/.tools
	$(BIN)/mypy

format: $(VENV)/.tools ## ruff format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.tools peers ## the start-up benchmark: table, JSON and plot in bench/out
	$(BIN)/python -m bench.startup --check
	$(BIN)/python -m bench.protections --check
	$(BIN)/python -m bench.staying --check

wheel: $(VENV)/.created ## one abi3 wheel in dist/
	$(BIN)/python -m pip install -q build
	$(BIN)/python -m build --wheel

clean: ## what was built
	rm -rf build dist *.egg-info pycontain/bin pycontain/_ffi.abi3.so pycontain/_ffi.c $(STAMP) $(VENV)/.tools
