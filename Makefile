.PHONY: demo peers test test-quick lint instructions features msrv deny bench fmt fuzz miri image

PEERS := $(or $(WATCHBELL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/watchbell)/peers

test: peers lint features msrv deny instructions ## Everything. The first time installs the real servers and clients of the tests: about ten minutes.
	cargo build --workspace
	cargo test --workspace

test-quick: ## The inner loop: what needs no other server.
	cargo test --workspace --exclude watchbell-tests
	cargo test --package watchbell-tests tidy

peers: ## Installs the servers and clients of the tests into a cache folder outside the repository.
	bash tests/peers/all.sh

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

features: ## The SDK compiles with few features.
	for features in "" grpc tls gzip,log,console metrics config-file otel-logs tower axum files zstd http-json macros hashed; do \
		cargo clippy --quiet --package watchbell --no-default-features --features "$$features" -- -D warnings || exit 1; done

MSRV = 1.88.0

msrv: ## The SDK, with every feature, compiles by the oldest compiler that it promises, which rustup installs; where it cannot, that is said.
	@rustup toolchain install $(MSRV) --profile minimal || echo "not checked by Rust $(MSRV): rustup toolchain install $(MSRV)" >&2
	@! rustup run $(MSRV) true || cargo +$(MSRV) check --target-dir target/msrv --package watchbell --package watchbell-proto --all-features

deny: ## Licences, banned crates, sources.
	bash tests/peers/cargo-deny.sh
	$(PEERS)/cargo-deny-0.20.2/bin/cargo-deny check licenses bans sources

instructions: ## How many instructions a log call takes, against the recorded numbers. Needs valgrind.
	@command -v valgrind >/dev/null || { echo "counting instructions needs valgrind: apt-get install valgrind" >&2; exit 1; }
	cargo bench --package watchbell --bench instructions

fmt:
	cargo fmt --all

bench: ## What BENCHMARKS.md tells, measured anew. The foreign collector is in the tables if `make peers` has installed it.
	cargo build --release --package watchbell-collector
	cargo bench --package watchbell-tests --bench collector
	cargo bench --package watchbell-proto --package watchbell-rules --package watchbell-collector --package watchbell

SECONDS ?= 300
FUZZ = logs_view:proto validate_all:proto json:proto logql:rules rule_file:rules template:rules pipeline:rules patterns:rules rule_test:rules loki_push:rules convert:rules wal_damage:collector records:sdk redaction:sdk spool_damage:sdk settings:sdk config_file:sdk propagation:sdk

fuzz: ## Each fuzz target for SECONDS, 300 unless told. Needs the nightly compiler.
	bash tests/peers/cargo-fuzz.sh
	for target in $(FUZZ); do \
	  (cd $${target#*:} && PATH="$(PEERS)/cargo-fuzz-0.13.2/bin:$$PATH" cargo +nightly fuzz run $${target%:*} -- -max_total_time=$(SECONDS)) || exit 1; \
	done

MIRI = cargo +nightly miri test --package watchbell --lib --

miri: ## Undefined behaviour and data races in the SDK: its raw pointers, and its lanes in many orders. Needs the nightly compiler; rustup adds `miri`.
	rustup component add miri rust-src --toolchain nightly
	MIRIFLAGS="-Zmiri-disable-isolation" $(MIRI) mapped::map
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..64" $(MIRI) lane::tests::whatever_the_order

image: ## The files of the container's image in target/image, seen to run with nothing else around. Needs root, and musl's target and compiler.
	CC_x86_64_unknown_linux_musl=musl-gcc sh image/build.sh target/image
	bash image/check.sh target/image

demo: ## The main job on live traffic, under two minutes after the build. KEEP=1 leaves it running.
	cargo build --package watchbell-collector --package watchbell-examples --bins
	"$${CARGO_TARGET_DIR:-target}"/debug/demo
