// A Node service where a trace begins: its records, and those of all services behind it, have the same trace id.
//
//     npm install
//     OTEL_SERVICE_NAME=storefront node storefront.mjs 8080 http://127.0.0.1:8081
//     curl -X POST http://127.0.0.1:8080/buy/17

import { createServer } from 'node:http';

import { SeverityNumber, SpanKind, context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { detectResources, envDetector } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

const resource = detectResources({ detectors: [envDetector] });
const logs = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })],
});
const spans = new TracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
});
context.setGlobalContextManager(new AsyncLocalStorageContextManager());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());
const log = logs.getLogger('storefront'); // a record is in the trace of the span that is active
const tracer = spans.getTracer('storefront');

const [port, orders] = process.argv.slice(2);

async function buy(order) {
  const attributes = { 'order.id': order };
  log.emit({ severityNumber: SeverityNumber.INFO, severityText: 'INFO', body: 'order wanted', attributes });
  const headers = {};
  propagation.inject(context.active(), headers);
  const answer = await fetch(`${orders}/orders/${order}`, { method: 'POST', headers });
  if (!answer.ok) {
    const body = `the order was answered by ${answer.status}`;
    log.emit({ severityNumber: SeverityNumber.ERROR, severityText: 'ERROR', body, attributes });
  }
  return answer.status;
}

const server = createServer((request, response) =>
  tracer.startActiveSpan('POST /buy/{id}', { kind: SpanKind.SERVER }, async (span) => {
    const status = await buy(Number(request.url.split('/').pop())).catch(() => 502);
    response.writeHead(status, { 'x-trace-id': span.spanContext().traceId }).end();
    span.end();
  }),
);
server.listen(Number(port), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));

process.once('SIGTERM', async () => {
  server.close();
  await Promise.all([logs.shutdown(), spans.shutdown()]);
});
