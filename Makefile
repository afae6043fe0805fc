# The two commands of the README are `make demo` and `make test`. Both install what is missing and build.

CARGO ?= cargo
PREFIX ?= /usr/local

FUZZ_SECONDS ?= 60

.PHONY: demo test check test-engines fuzz bench build install uninstall deps

## Show the whole job in a private Docker host on this machine.
demo: build
	target/release/lab run -- sh $(CURDIR)/deploy/demo.sh

## Run every test: formatting, lints, units, replays, kernel, real engine.
test: check
	$(CARGO) build --release --locked --workspace --exclude ciao-bench
	$(CARGO) test --locked --no-fail-fast -p ciao-tests

## The tests that need no engine.
check: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked -p ciao-common -p ciao-ipam -p ciao-netdriver -p ciao-fuzz

## The tests on a real engine, once for each engine of three Debian suites. Longer than in `test`: each call meets three
## kills, and random operations a hundred faults. Prints what happened to each call, and what took how long.
test-engines: build
	for engine in bookworm trixie forky; do \
		CIAO_ENGINE=$$engine CIAO_ROUNDS=3 CIAO_FAULTS=100 $(CARGO) test --locked -p ciao-tests -- --show-output || exit 1; \
	done

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

## Put the plugins onto this machine.
install: build
	PREFIX=$(PREFIX) sh deploy/install.sh target/release

uninstall:
	PREFIX=$(PREFIX) sh deploy/uninstall.sh

deps:
	@sh deploy/deps.sh
