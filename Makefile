# SPDX-License-Identifier: Apache-2.0
# The two commands of the README are `make demo` and `make test`. Both install what is missing and build.

CARGO ?= cargo
PREFIX ?= /usr/local

FUZZ_SECONDS ?= 60

# What `--version` prints beside the release; nothing where there is no git.
export CIAO_COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)

# What is linted and tested, always as one set of packages: cargo builds a dependency again for another set of features.
ALL = --locked --workspace
# The suites of the crates themselves, which need no engine.
ENGINELESS = $(sort $(notdir $(basename $(wildcard crates/*/tests/*.rs fuzz/tests/*.rs)) $(patsubst %/main.rs,%,$(wildcard crates/*/tests/*/main.rs))))
# Packages of the workspace are linted as they are compiled: clippy by itself would read every dependency once more.
LINTED = RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings $(CARGO)
# Tests with an engine wait a third of their time, so more of them run than there are processors.
TEST_THREADS ?= $(shell expr 3 \* $$(nproc))

.PHONY: demo test check lint test-engines test-kernels test-package fuzz bench build programs package plugin install uninstall deps

## Show the whole job in a private Docker host on this machine.
demo: build
	target/release/lab run -- sh $(CURDIR)/deploy/demo.sh

## Run every test: formatting, lints, units, replays, kernel, real engine. The daemons under test are those of the same
## build.
test: lint
	RUST_TEST_THREADS=$(TEST_THREADS) $(LINTED) test $(ALL) --no-fail-fast

## The tests that need no engine.
check: lint
	$(LINTED) test $(ALL) --lib --bins $(addprefix --test ,$(ENGINELESS))

## Build all targets, with the lints as errors.
lint: deps
	$(CARGO) fmt --all --check
	$(LINTED) test $(ALL) --all-targets --no-run

## The tests on a real engine, once for each engine of three Debian suites. Longer than in `test`: each call meets three
## kills, and random operations a hundred faults; the daemons are release builds. Prints what happened to each call, and
## what took how long.
test-engines: build
	for engine in bookworm trixie forky; do \
		CIAO_BIN_DIR=$(CURDIR)/target/release CIAO_ENGINE=$$engine CIAO_ROUNDS=3 CIAO_FAULTS=100 CIAO_NETWORKS=100 \
			RUST_TEST_THREADS=$(TEST_THREADS) sh -c '$(CARGO) test --locked -p ciao-tests -- --show-output && \
				$(CARGO) test --locked -p ciao-tests --test docker --test faults --test host --test outside -- --ignored --show-output' || exit 1; \
	done

## The package: what is in it, its scripts, and it and `make install` under systemd, on bare root filesystems of two
## Debian suites.
test-package: build programs target/tools/bin/cargo-deb
	CIAO_BIN_DIR=$(CURDIR)/target/release $(CARGO) test --locked -p ciao-tests --test package -- --include-ignored --show-output

## The driver's tests on the kernels of other Debian releases, in emulated machines. Kernels come from Debian once.
test-kernels: deps
	binary=$$($(CARGO) test --locked -p ciao-netdriver --test kernel --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$$/\1/p') && \
		sh tests/lab/kernels.sh "$$binary" bullseye bookworm trixie

## Fuzz each target for FUZZ_SECONDS, with an eye on the code that is reached. Findings are in fuzz/artifacts.
fuzz: export CARGO_PROFILE_RELEASE_LTO = off
fuzz: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 16
fuzz: deps
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	for target in bodies ipam net control sequence; do \
		mkdir -p target/corpus/$$target; \
		$(CARGO) fuzz run --sanitizer none --features libfuzzer $$target \
			target/corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=3000 -timeout=30 || exit 1; \
	done

## Measure everything, into benches/RESULTS.md and benches/results.svg: about ten minutes on two cores.
bench: build
	@sh deploy/deps.sh bench
	$(CARGO) build --release --locked -p ciao-bench
	$(CARGO) run --release --locked -p ciao-bench -- all --folder $(CURDIR)/benches
	$(CARGO) bench --locked -p ciao-bench

build: deps
	$(CARGO) build --release --locked --workspace --exclude ciao-bench

## The two programs, their manual pages and completions: all that an installation needs.
programs:
	@sh deploy/deps.sh build
	$(CARGO) build --release --locked -p ciao-netdriver -p ciao-ipam -p ciao-package
	target/release/ciao-manual target/package/manual

target/tools/bin/cargo-deb:
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug --locked --root target/tools cargo-deb

## A Debian package, and an archive with static programs for other systems, in target/package.
package: programs target/tools/bin/cargo-deb
	CARGO="$(CARGO)" sh deploy/package.sh

## Docker's managed plugins ciao-net and ciao-ipam, made and enabled in this machine's engine.
plugin: programs
	sh deploy/plugin/build.sh

## Put the plugins onto this machine, as the archive's install.sh does.
install: programs
	PREFIX=$(PREFIX) sh deploy/install.sh target/release target/package/manual

uninstall:
	PREFIX=$(PREFIX) sh deploy/uninstall.sh

deps:
	@sh deploy/deps.sh test
