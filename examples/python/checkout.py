"""A service that logs by Python's standard `logging`; three lines send its records to Watchbell.

    pip install -r requirements.txt
    OTEL_SERVICE_NAME=checkout python checkout.py
"""

import logging

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))

# Spans give the records their trace; add an exporter where the traces are to leave as well.
trace.set_tracer_provider(TracerProvider())

log = logging.getLogger("checkout")


def pay(order):
    with trace.get_tracer("checkout").start_as_current_span("pay"):
        try:
            raise ValueError("card expired")
        except ValueError:
            log.exception("payment refused for order %d", order, extra={"order.id": order})


for order in range(1, 4):
    pay(order)
logs.shutdown()
