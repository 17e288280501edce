#!/usr/bin/env bash
# A client of OpenTelemetry's Java SDK, beside the jars that it needs.
. "$(dirname "$0")/lib.sh"
peer java-client "$peers"/../foreign/java/*
need javac "apt-get install openjdk-17-jdk-headless"
need mvn "apt-get install maven"
cp "$peers"/../foreign/java/* .
mvn --batch-mode --quiet dependency:copy-dependencies -DoutputDirectory="$target/jars"
javac -cp "$target/jars/*" -d "$target/classes" Send.java
installed
