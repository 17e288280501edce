#!/usr/bin/env bash
# Rotel, a collector in Rust, that the benchmarks are compared with: the program alone out of its Python wheel.
. "$(dirname "$0")/lib.sh"
peer rotel
need_python
venv rotel=="$version"
cp "$target"/venv/lib/python*/site-packages/rotel/rotel-agent "$target/bin/rotel"
rm -rf "$target/venv"
installed
