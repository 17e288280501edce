.PHONY: demo test test-quick lint bench fmt

test-quick: ## The inner loop: what needs no other server.
	cargo test --workspace

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

fmt:
	cargo fmt --all

test: lint test-quick
