import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.resources.Resource;
import java.time.Instant;
import java.util.concurrent.TimeUnit;

/** Logs three errors in a span: java Send PROTOCOL ENDPOINT COMPRESSION */
class Send {
  public static void main(String[] args) {
    var provider =
        SdkLoggerProvider.builder()
            .setResource(Resource.create(Attributes.of(AttributeKey.stringKey("service.name"), "foreign-java")))
            .addLogRecordProcessor(BatchLogRecordProcessor.builder(exporter(args[0], args[1], args[2])).build())
            .build();
    var span =
        SpanContext.create(
            "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", TraceFlags.getSampled(), TraceState.getDefault());
    var logger = provider.get("checkout");
    try (var scope = Span.wrap(span).makeCurrent()) {
      for (int attempt = 0; attempt < 3; attempt++) {
        logger
            .logRecordBuilder()
            .setTimestamp(Instant.now())
            .setSeverity(Severity.ERROR)
            .setSeverityText("ERROR")
            .setBody("payment refused, attempt " + attempt)
            .setAttribute(AttributeKey.stringKey("user.id"), "42")
            .setAttribute(AttributeKey.longKey("attempt"), (long) attempt)
            .setAttribute(AttributeKey.doubleKey("ratio"), 0.5)
            .setAttribute(AttributeKey.booleanKey("retried"), true)
            .emit();
      }
    }
    var result = provider.shutdown().join(10, TimeUnit.SECONDS);
    System.exit(result.isSuccess() ? 0 : 1);
  }

  private static LogRecordExporter exporter(String protocol, String endpoint, String compression) {
    if (protocol.equals("grpc")) {
      return OtlpGrpcLogRecordExporter.builder().setEndpoint(endpoint).setCompression(compression).build();
    }
    return OtlpHttpLogRecordExporter.builder().setEndpoint(endpoint + "/v1/logs").setCompression(compression).build();
  }
}
