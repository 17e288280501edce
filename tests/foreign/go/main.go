// Logs three errors in a span: send PROTOCOL ENDPOINT COMPRESSION
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	exporter, err := newExporter(os.Args[1], os.Args[2], os.Args[3])
	check(err)
	provider := sdklog.NewLoggerProvider(
		sdklog.WithResource(resource.NewSchemaless(attribute.String("service.name", "foreign-go"))),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)),
	)
	traceID, _ := trace.TraceIDFromHex("4bf92f3577b34da6a3ce929d0e0e4736")
	spanID, _ := trace.SpanIDFromHex("00f067aa0ba902b7")
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(context.Background(), span)
	for attempt := range 3 {
		provider.Logger("checkout").Emit(ctx, record(attempt))
	}
	check(provider.Shutdown(context.Background()))
}

func newExporter(protocol, endpoint, compression string) (sdklog.Exporter, error) {
	if protocol == "grpc" {
		options := []otlploggrpc.Option{otlploggrpc.WithEndpointURL(endpoint)}
		if compression == "gzip" {
			options = append(options, otlploggrpc.WithCompressor("gzip"))
		}
		return otlploggrpc.New(context.Background(), options...)
	}
	options := []otlploghttp.Option{otlploghttp.WithEndpointURL(endpoint + "/v1/logs")}
	if compression == "gzip" {
		options = append(options, otlploghttp.WithCompression(otlploghttp.GzipCompression))
	}
	return otlploghttp.New(context.Background(), options...)
}

func record(attempt int) log.Record {
	var r log.Record
	r.SetTimestamp(time.Now())
	r.SetSeverity(log.SeverityError)
	r.SetSeverityText("ERROR")
	r.SetBody(attribute.StringValue(fmt.Sprintf("payment refused, attempt %d", attempt)))
	r.AddAttributes(
		attribute.String("user.id", "42"), attribute.Int("attempt", attempt),
		attribute.Float64("ratio", 0.5), attribute.Bool("retried", true),
	)
	return r
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
