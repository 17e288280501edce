#!/usr/bin/env bash
# What the Python services under `examples` import.
. "$(dirname "$0")/lib.sh"
requirements=$peers/../../examples/python/requirements.txt
peer python-examples "$requirements"
need_python
venv --requirement "$requirements"
installed
