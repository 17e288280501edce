"""Python's row of the table: standard `logging` with OpenTelemetry's stock handler, flat out, by OTLP/gRPC to the endpoint given."""

import logging
import resource
import sys
import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

CALLS = 30_000

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=sys.argv[1], insecure=True)))
log = logging.getLogger("bench")
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(logger_provider=logs))
trace.set_tracer_provider(TracerProvider())

nanos = []
with trace.get_tracer("bench").start_as_current_span("checkout"):
    cpu, started = time.process_time_ns(), time.monotonic_ns()
    for order_id in range(CALLS):
        at = time.perf_counter_ns()
        log.info("order %d placed", order_id, extra={"order_id": order_id, "amount": 9.75, "upstream": "payment"})
        nanos.append(time.perf_counter_ns() - at)
    elapsed = time.monotonic_ns() - started
logs.shutdown()
nanos.sort()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(CALLS, elapsed, nanos[CALLS // 2], nanos[CALLS * 99 // 100], time.process_time_ns() - cpu, memory, 0)
