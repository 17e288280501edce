"""Logs three errors in a span by the standard `logging` module: send.py PROTOCOL ENDPOINT COMPRESSION"""

import logging
import sys

from opentelemetry import trace
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource


def exporter(protocol, endpoint, compression):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

        how = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        return OTLPLogExporter(endpoint=endpoint, insecure=True, compression=how)
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    else:
        from opentelemetry.exporter.otlp.common.http import Compression
        from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter
    return OTLPLogExporter(endpoint=endpoint + "/v1/logs", compression=Compression(compression))


provider = LoggerProvider(resource=Resource({"service.name": "foreign-python"}))
provider.add_log_record_processor(BatchLogRecordProcessor(exporter(*sys.argv[1:])))
logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))

span = trace.SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, False, trace.TraceFlags(1))
with trace.use_span(trace.NonRecordingSpan(span)):
    for attempt in range(3):
        extra = {"user.id": "42", "attempt": attempt, "ratio": 0.5, "retried": True}
        logging.getLogger("checkout").error("payment refused, attempt %d", attempt, extra=extra)
provider.shutdown()
