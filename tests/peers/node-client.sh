#!/usr/bin/env bash
# OpenTelemetry's Node packages, and the client that uses them.
. "$(dirname "$0")/lib.sh"
peer node-client "$peers/../foreign/node/package.json" "$peers/../foreign/node/send.mjs"
need node "install Node.js 20 or later from https://nodejs.org"
need npm "install Node.js 20 or later from https://nodejs.org"
cp "$peers"/../foreign/node/{package.json,send.mjs} "$target/"
npm install --silent --no-audit --no-fund --no-package-lock --prefix "$target"
installed
