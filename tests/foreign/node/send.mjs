// Logs three errors in a span: node send.mjs PROTOCOL ENDPOINT COMPRESSION

import { ROOT_CONTEXT, SeverityNumber, trace } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';

const packages = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };

const [protocol, endpoint, compression] = process.argv.slice(2);
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${packages[protocol]}`);
const url = protocol === 'grpc' ? endpoint : `${endpoint}/v1/logs`;
const provider = new LoggerProvider({
  resource: resourceFromAttributes({ 'service.name': 'foreign-node' }),
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter({ url, compression }) })],
});
const context = trace.setSpanContext(ROOT_CONTEXT, {
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  spanId: '00f067aa0ba902b7',
  traceFlags: 1,
});
for (let attempt = 0; attempt < 3; attempt++) {
  provider.getLogger('checkout').emit({
    context,
    severityNumber: SeverityNumber.ERROR,
    severityText: 'ERROR',
    body: `payment refused, attempt ${attempt}`,
    attributes: { 'user.id': '42', attempt, ratio: 0.5, retried: true },
  });
}
await provider.shutdown();
