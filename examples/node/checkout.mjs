// A Node service that logs by OpenTelemetry's API to Watchbell:
//
//     npm install
//     OTEL_SERVICE_NAME=checkout node checkout.mjs

import { SeverityNumber } from '@opentelemetry/api';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { detectResources, envDetector } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';

const logs = new LoggerProvider({
  resource: detectResources({ detectors: [envDetector] }),
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })],
});
const log = logs.getLogger('checkout');

for (let order = 1; order <= 3; order++) {
  log.emit({
    severityNumber: SeverityNumber.ERROR,
    severityText: 'ERROR',
    body: `payment refused for order ${order}`,
    attributes: { 'order.id': order },
  });
}
await logs.shutdown();
