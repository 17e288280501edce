"""What `stock.py` and `payment.py` share: telemetry to Watchbell, and for each request a span in its caller's trace.

Where to is said by the OTEL_* names: OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_ENDPOINT.
"""

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
spans = TracerProvider()
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(spans)
tracer = trace.get_tracer("service")


def serve(port, route, answer):
    """Serves `POST ROUTE/ID` on loopback: `answer(id)` is the status. Ends at SIGTERM; the providers then send what is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            caller = propagate.extract(self.headers)
            with tracer.start_as_current_span(f"POST {route}/{{id}}", caller, trace.SpanKind.SERVER) as span:
                status = answer(int(self.path.rsplit("/", 1)[1]))
                span.set_attribute("http.response.status_code", status)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            """No lines of the server's own."""

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
