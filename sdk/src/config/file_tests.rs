//! What comes of configuration files.

use std::time::Duration;

use super::yaml::substitute;
use super::*;

/// What comes of a file's text with these variables in the environment.
fn read(yaml: &str, variables: &[(&str, &str)]) -> Result<(Config, Vec<String>), String> {
    read_by(Builder::default(), yaml, variables)
}

fn read_by(builder: Builder, yaml: &str, variables: &[(&str, &str)]) -> Result<(Config, Vec<String>), String> {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let path = file.path().to_str().unwrap();
    let variables = variables.iter().copied().chain([("OTEL_CONFIG_FILE", path)]);
    let told = |text: String| text.replace(path, "otel.yaml");
    let (config, warnings) = builder.variables(variables).build(true).map_err(told)?;
    Ok((config, warnings.into_iter().map(told).collect()))
}

/// As a variable is that is not set: no reason to do without the service.
#[test]
fn an_attribute_without_a_value_is_told() {
    let yaml = "file_format: '1.0'\nresource:\n  attributes:\n  - name: service.version\n    value: ${VERSION}\n  - {name: a, value: b}";
    let (config, told) = read(yaml, &[]).unwrap();
    let has = |key: &str| config.resource.iter().any(|attribute| attribute.key.as_str() == key);
    assert!(has("a") && !has("service.version"));
    assert!(told.len() == 1 && told[0].contains("the attribute `service.version` has no value"), "{told:?}");
}

const WHOLE: &str = r#"
file_format: "1.0"
log_level: warn2
resource:
  attributes:
    - {name: service.name, value: "${OTEL_SERVICE_NAME:-checkout}"}
    - {name: replicas, value: 3, type: int}
    - {name: zones, value: [a, b], type: string_array}
  attributes_list: team=pay,service.name=beaten
attribute_limits:
  attribute_count_limit: 20
propagator:
  composite: [{b3: }, {tracecontext: }]
  composite_list: baggage,b3
logger_provider:
  processors:
    - batch:
        schedule_delay: 250
        export_timeout: 9000
        max_queue_size: 100
        max_export_batch_size: 10
        exporter: &collector
          otlp_http:
            endpoint: http://collector:4318/own
            headers: [{name: api-key, value: "${KEY}"}]
            headers_list: api-key=beaten,x-tenant=pay
            compression: gzip
            timeout: 0
    - simple:
        exporter: {console: }
  limits:
    attribute_value_length_limit: 0x
"#;

#[test]
fn a_whole_file() {
    let yaml = WHOLE.replace("0x", "80");
    let variables = [("KEY", "k1"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://beaten:1"), ("OTEL_SDK_DISABLED", "true")];
    let (config, warnings) = read(&yaml, &variables).unwrap();
    assert!(warnings.is_empty(), "{warnings:#?}");
    let logs = config.export(Signal::Logs).unwrap();
    assert_eq!((logs.uri.to_string().as_str(), logs.protocol), ("http://collector:4318/own", Protocol::HttpProtobuf));
    assert_eq!((logs.headers["api-key"].as_bytes(), logs.headers["x-tenant"].as_bytes()), (&b"k1"[..], &b"pay"[..]));
    assert_eq!((logs.schedule_delay, logs.export_timeout), (Duration::from_millis(250), Some(Duration::from_secs(9))));
    assert_eq!((logs.queue_records_max, logs.batch_records_max), (100, 10));
    assert!(logs.timeout > Duration::from_secs(86_400) && config.has_console());
    assert!(config.export(Signal::Traces).is_none(), "what the file lacks is not exported");
    assert_eq!(config.propagators, [Propagator::B3, Propagator::TraceContext, Propagator::Baggage]);
    assert_eq!((config.limits.attributes_per_record_max, config.limits.record_value_chars_max), (20, 80));
    assert_eq!((config.limits.spans.max_attributes_per_span, config.limits.span_value_chars_max), (20, usize::MAX));
    assert_eq!(format!("{:?}", config.verbosity), "Warn");
    let attribute =
        |key: &str| config.resource.iter().find(|found| found.key.as_str() == key).unwrap().value.to_string();
    assert_eq!((attribute("service.name").as_str(), attribute("team").as_str()), ("checkout", "pay"));
    assert_eq!((attribute("replicas").as_str(), attribute("zones").as_str()), ("3", "[\"a\",\"b\"]"));
}

#[test]
fn traces_and_metrics() {
    let yaml = "
file_format: '1.0'
tracer_provider:
  processors: [{batch: {exporter: {otlp_grpc: {endpoint: 'c:4317', tls: {insecure: true}}}}}]
  sampler: {parent_based: {root: {trace_id_ratio_based: {ratio: 0.25}}, remote_parent_not_sampled: {always_on: }}}
meter_provider:
  readers:
    - periodic:
        interval: 15000
        exporter: {otlp_http: {temporality_preference: delta, default_histogram_aggregation: base2_exponential_bucket_histogram}}
";
    let (config, warnings) = read(yaml, &[]).unwrap();
    assert!(warnings.is_empty() && config.export(Signal::Logs).is_none() && !config.has_console(), "{warnings:?}");
    let traces = config.export(Signal::Traces).unwrap();
    assert_eq!(traces.uri, "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!(
        format!("{:?}", config.sampler),
        "ParentBasedSampler { root: TraceIdRatioBased(0.25), remote_parent_sampled: None, remote_parent_not_sampled: Some(AlwaysOn), local_parent_sampled: None, local_parent_not_sampled: None }"
    );
    let metrics = config.export(Signal::Metrics).unwrap();
    assert_eq!((metrics.uri.path(), metrics.schedule_delay), ("/v1/metrics", Duration::from_secs(15)));
    assert_eq!(format!("{:?}", config.metrics.temporality), "Delta");
    assert!(config.metrics.has_exponential_histograms && config.propagators.is_empty());
}

#[test]
fn views() {
    let of = |view: &str| read(&format!("file_format: '1.0'\nmeter_provider: {{views: [{view}]}}\n"), &[]);
    let (config, told) =
        of("{selector: {instrument_name: 'http.*', instrument_type: histogram, unit: s, meter_name: checkout},
        stream: {name: took, aggregation: {explicit_bucket_histogram: {boundaries: [0.1, 1], record_min_max: false}},
        aggregation_cardinality_limit: 10, attribute_keys: {included: [a]}}}")
        .unwrap();
    let [view] = &config.metrics.views[..] else { panic!("{:?}", config.metrics) };
    assert_eq!(
        (view.instrument_name.as_deref(), view.name.as_deref(), view.cardinality_limit),
        (Some("http.*"), Some("took"), Some(10))
    );
    assert_eq!(
        format!("{:?}", view.aggregation),
        "Some(ExplicitBucketHistogram { boundaries: [0.1, 1.0], record_min_max: false })"
    );
    assert!(told.len() == 1 && told[0].contains("`attribute_keys` is not honoured"), "{told:?}");
    for (wrong, told) in [
        ("{stream: {aggregation: {explicit_bucket_histogram: {boundaries: [1, 0.1]}}}}", "oundaries"),
        ("{stream: {aggregation: {median: }}}", "this aggregation is not known; write `default`"),
        ("{selector: {instrument_type: thermometer}}", "`thermometer` is not a type of instrument"),
        ("{stream: {aggregation: {base2_exponential_bucket_histogram: {max_scale: many}}}}", "`many` is not a number"),
    ] {
        let error = of(wrong).unwrap_err();
        assert!(error.starts_with("otel.yaml:2:") && error.contains(told), "{error}");
    }
}

#[test]
fn what_is_our_own() {
    let distribution = |own: &str| format!("file_format: '1.0'\ndistribution: {{other: {{x: 1}}, watchbell: {own}}}\n");
    let env = [("WATCHBELL_RESTRAIN", "2/s")];
    let (config, told) = read(&distribution("{restrain: 'a=1/s'}"), &env).unwrap();
    assert_eq!((config.restraint, told.len()), ("a=1/s".parse().unwrap(), 0));
    assert_eq!(read("file_format: '1.0'\n", &env).unwrap().0.restraint, "2/s".parse().unwrap());
    let error = read(&distribution("{restrain: 'a=often'}"), &[]).unwrap_err();
    assert!(error.starts_with("otel.yaml:2:") && error.contains("`often` holds nothing back"), "{error}");
    let (_, told) = read(&distribution("{colours: true}"), &[]).unwrap();
    assert!(told[0].contains("`colours` is not honoured"), "{told:?}");
    let sinks = "{levels: 'warn,checkout=debug', levels_file: /etc/levels, sinks: ['stderr format=compact', syslog]}";
    let (config, _) = read(&distribution(sinks), &[("WATCHBELL_SINKS", "journald")]).unwrap();
    assert_eq!(config.levels.to_string(), "warn,checkout=debug");
    assert_eq!(config.levels_file, Some("/etc/levels".into()));
    assert_eq!(format!("{:?}", config.sinks), r#"[Sink { name: "stderr", .. }, Sink { name: "syslog", .. }]"#);
    assert_eq!(read(&distribution(sinks), &[("RUST_LOG", "error")]).unwrap().0.levels.to_string(), "error");
    let spool = "{spool: {dir: /var/spool/shop, bytes_max: 1000, when_full: refuse_newest, mapped: true}}";
    let (config, told) = read(&distribution(spool), &[("WATCHBELL_SPOOL_DIR", "/elsewhere")]).unwrap();
    let expected = Spool::in_dir("/var/spool/shop").bytes_max(1000).refuse_newest().mapped();
    assert_eq!((config.spool, told.len()), (Some(expected), 0));
    let (config, _) = read(&distribution("{}"), &[("WATCHBELL_SPOOL_DIR", "/elsewhere")]).unwrap();
    assert_eq!(config.spool, Some(Spool::in_dir("/elsewhere")));
    let error = read(&distribution("{spool: {mapped: maybe}}"), &[]).unwrap_err();
    assert!(error.contains("`dir` is missing"), "{error}");
    let error = read(&distribution("{spool: {dir: x, mapped: maybe}}"), &[]).unwrap_err();
    assert!(error.contains("`maybe` is not a boolean"), "{error}");
    let url = "{levels_url: 'http://config/shop', levels_interval: 2000}";
    let expected = LevelsUrl { uri: "http://config/shop".parse().unwrap(), interval: Duration::from_secs(2) };
    assert_eq!(read(&distribution(url), &[]).unwrap().0.levels_url, Some(expected));
    let error = read(&distribution("{levels_url: config}"), &[]).unwrap_err();
    assert!(error.contains("`config` is not an endpoint; write `http://host:port`"), "{error}");
    let all = "{redact: 'Usual,hash:user.email,iban', baggage_attributes: [tenant], buffer_bytes_max: 1000000, when_full: block,
        block_timeout: 20, shutdown_timeout: 3000, panics: false}";
    let env = [
        ("WATCHBELL_REDACT", "none"),
        ("WATCHBELL_REDACT_HASH_KEY", "secret"),
        ("WATCHBELL_BAGGAGE_ATTRIBUTES", "user"),
        ("WATCHBELL_BUFFER_BYTES_MAX", "7"),
        ("WATCHBELL_WHEN_FULL", "drop_oldest"),
        ("WATCHBELL_SHUTDOWN_TIMEOUT", "1"),
        ("WATCHBELL_PANICS", "true"),
    ];
    let (config, told) = read(&distribution(all), &env).unwrap();
    let fate = |key| config.redaction.as_ref().unwrap().fate(key);
    assert!(fate("password").is_some() && fate("user.email") != fate("iban") && fate("none").is_none());
    assert_eq!(
        (config.baggage_attributes, config.buffer_bytes_max, config.panics),
        (vec!["tenant".to_owned()], 1_000_000, false)
    );
    let (when_full, timeout) = (crate::WhenFull::Block(Duration::from_millis(20)), Duration::from_secs(3));
    assert_eq!((config.when_full, config.shutdown_timeout, told.len()), (when_full, timeout, 0));
    let (config, _) = read(&distribution("{}"), &env).unwrap();
    assert!(config.redaction.unwrap().fate("none").is_some() && config.panics);
    assert_eq!((config.baggage_attributes, config.buffer_bytes_max), (vec!["user".to_owned()], 7));
    let (_, told) = read(&distribution("{redact: 'usuall'}"), &[]).unwrap();
    assert!(told[0].starts_with("otel.yaml:2:") && told[0].contains("`usuall` is taken for `usual`"), "{told:?}");
    let error = read(&distribution("{sinks: ['stdin', 'stderr format=xml']}"), &[]).unwrap_err();
    assert!(error.contains("`stdin` is no sink") && error.contains("`xml` is not a format"), "{error}");
}

#[test]
fn loggers_have_levels_and_go_by_their_trace() {
    let of = |configurator: &str| {
        let yaml =
            format!("file_format: '1.0'\nlogger_provider: {{logger_configurator/development: {configurator}}}\n");
        read(&yaml, &[])
    };
    let (config, told) = of("{default_config: {minimum_severity: warn}, loggers: [
        {name: 'checkout.*', config: {minimum_severity: debug2, trace_based: true}},
        {name: hyper, config: {enabled: false}}, {name: h2, config: {disabled: true}}]}")
    .unwrap();
    assert_eq!((config.levels.to_string().as_str(), told.len()), ("warn,checkout=info,h2=off,hyper=off", 0));
    assert_eq!(config.restraint, "checkout=error:sampled".parse().unwrap());
    let (config, _) = of("{default_config: {trace_based: true}}").unwrap();
    assert_eq!((config.levels.to_string().as_str(), config.restraint), ("info", "error:sampled".parse().unwrap()));
    let (config, _) = of("{default_config: {minimum_severity: fatal}}").unwrap();
    assert_eq!(config.levels.to_string(), "off", "no level is that severe");
    for (wrong, told) in [
        ("{default_config: {minimum_severity: loud}}", "otel.yaml:2:"),
        ("{loggers: [{name: 'a*b', config: {}}]}", "has a wildcard elsewhere than at its end"),
        ("{default_config: {enabled: perhaps}}", "is not a boolean"),
    ] {
        let error = of(wrong).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_builder_still_wins() {
    let yaml = "{file_format: '1.0', logger_provider: {processors: [{batch: {exporter: {otlp_http: }}}]}}";
    let builder = Builder::default().service_name("code").endpoint("http://other:1").header("a", "b");
    let (config, _) = read_by(builder, yaml, &[("OTEL_SERVICE_NAME", "environment")]).unwrap();
    let logs = config.export(Signal::Logs).unwrap();
    assert_eq!((logs.uri.to_string().as_str(), logs.headers["a"].as_bytes()), ("http://other:1/v1/logs", &b"b"[..]));
    assert!(config.resource.contains(&KeyValue::new("service.name", "code")));
}

#[test]
fn disabled() {
    let yaml = "{file_format: '1.0', disabled: '${OFF:-false}', logger_provider: {processors: [{batch: {exporter: {otlp_http: }}}]}}";
    assert!(read(yaml, &[]).unwrap().0.export(Signal::Logs).is_some());
    let (config, _) = read(yaml, &[("OFF", "true")]).unwrap();
    assert!(config.is_disabled && config.export(Signal::Logs).is_none());
}

#[test]
fn each_delegate_of_a_sampler_decides_its_own() {
    use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt, TraceFlags};
    use opentelemetry_sdk::trace::SamplingDecision;
    let names =
        ["remote_parent_sampled", "remote_parent_not_sampled", "local_parent_sampled", "local_parent_not_sampled"];
    let usual = [true, false, true, false];
    for (i, name) in names.iter().enumerate() {
        let opposite = if usual[i] { "always_off" } else { "always_on" };
        let yaml =
            format!("file_format: '1.0'\ntracer_provider: {{sampler: {{parent_based: {{{name}: {{{opposite}: }}}}}}}}");
        let (config, warnings) = read(&yaml, &[]).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let decisions = [(true, true), (true, false), (false, true), (false, false)].map(|(is_remote, is_sampled)| {
            let flags = TraceFlags::default().with_sampled(is_sampled);
            let parent = SpanContext::new(7.into(), 8.into(), flags, is_remote, Default::default());
            let context = opentelemetry::Context::new().with_remote_span_context(parent);
            let result = config.sampler.should_sample(Some(&context), 7.into(), "", &SpanKind::Server, &[], &[]);
            result.decision == SamplingDecision::RecordAndSample
        });
        let mut expected = usual;
        expected[i] = !usual[i];
        assert_eq!(decisions, expected, "{name}");
    }
}

#[test]
fn what_is_not_honoured_is_told_with_its_place() {
    let yaml = "
file_format: '1.0'
instrumentation/development: {}
logger_provider:
  processors:
    - batch: {exporter: {otlp_file/development: {output_stream: stdout}}}
    - batch: {exporter: {otlp_http: {shape: round}}}
    - batch: {exporter: {otlp_grpc: }}
tracer_provider:
  processors: [{simple: {exporter: {console: }}}]
  sampler: {parent_based: {local_parent_sampled: {xray: }}}
propagator: {composite_list: 'jaeger,b3'}
";
    let (config, warnings) = read(yaml, &[]).unwrap();
    assert!(config.export(Signal::Logs).is_some() && config.propagators == [Propagator::B3]);
    let heads: Vec<_> = warnings.iter().map(|warning| warning.lines().next().unwrap()).collect();
    let places: Vec<_> = heads.iter().map(|head| head.split(": ").next().unwrap()).collect();
    let mut expected = vec!["3:1", "6:26", "7:38", "8:26", "10:37", "11:51", "12:30"];
    let mut found: Vec<_> = places.iter().map(|place| place.strip_prefix("otel.yaml:").unwrap()).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{warnings:#?}");
    assert!(
        warnings.contains(
            &"otel.yaml:3:1: `instrumentation/development` is not honoured\n    instrumentation/development: {}\n    ^"
                .to_owned()
        )
    );
}

#[test]
fn mistakes_refuse_the_file_and_are_told_with_their_places() {
    let error = read(WHOLE, &[]).unwrap_err();
    let expected = "otel.yaml:32:35: `0x` is not a number of 0 or more\n        attribute_value_length_limit: 0x\n    ";
    assert!(error.starts_with(expected) && error.ends_with('^'), "{error}");
    let cases = [
        ("", "1:1: the file is empty"),
        ("a: [", "1:4: "),
        ("{}", "1:1: `file_format` is missing; write `file_format: \"1.0\"`"),
        ("file_format: 0.4", "1:14: `0.4` is not a `file_format` that is known; write `\"1.0\"`"),
        ("file_format: '1.0'\ndisabled: maybe", "2:11: `maybe` is not a boolean; write `true` or `false`"),
        ("file_format: '1.0'\nfile_format: '1.0'", "2:1: `file_format` is there twice"),
        ("file_format: '1.0'\nresource: 7", "2:11: is no mapping"),
        ("file_format: '1.0'\ntracer_provider: {processors: [{batch: }]}", "2:38: `exporter` is missing"),
        ("file_format: ${STRING_VALUE:?error}", "1:14: `${STRING_VALUE:?error}` names no variable; write `${NAME}`"),
        ("file_format: '1.0'\n---\nfile_format: '1.0'", "2:1: a second document is not read"),
        ("file_format: '1.0'\nresource: {attributes: [{name: a, value: x, type: int}]}", "2:42: is no `int`"),
        (
            "file_format: '1.0'\nlogger_provider: {processors: [{batch: {exporter: {otlp_http: {tls: {key_file: k}}}}}]}",
            "2:80: `cert_file` is missing beside `key_file`",
        ),
        (
            "file_format: '1.0'\nlogger_provider: {processors: [{batch: {max_queue_size: 5, max_export_batch_size: 6, exporter: {otlp_http: }}}]}",
            "2:83: 6 is more than `max_queue_size`, 5",
        ),
    ];
    for (yaml, expected) in cases {
        let error = read(yaml, &[]).unwrap_err();
        assert!(error.starts_with(&format!("otel.yaml:{expected}")), "{yaml}: {error}");
    }
    let yaml = "file_format: '1.0'\ndisabled: ${1X}\nresource: 7\nlogger_provider: {processors: [{batch: {exporter: {otlp_http: {endpoint: '${NOPE}/v1/logs'}}}}]}";
    let error = read(yaml, &[]).unwrap_err();
    let told: Vec<_> = error.lines().filter(|line| line.starts_with("otel.yaml:")).collect();
    assert_eq!(told.len(), 3, "{error}");
    assert!(
        told[0].starts_with("otel.yaml:2:11: `${1X}` names no variable") && told[1].starts_with("otel.yaml:3:11: "),
        "{error}"
    );
    assert!(told[2].contains("`/v1/logs` is not an endpoint") && told[2].ends_with("; `NOPE` is not set"), "{error}");
    let missing = Builder::default().variables([("OTEL_CONFIG_FILE", "/no/such.yaml")]).build(true).unwrap_err();
    assert!(missing.starts_with("cannot read `/no/such.yaml`: "), "{missing}");
}

#[test]
fn a_line_that_may_hold_a_secret_is_not_shown() {
    for exporter in [
        "{endpoint: 'http://user:hunter2@c:4318'}",
        "{endpoint: 'c:4318?api-key=hunter2'}",
        "{headers: [{name: 'a b', value: hunter2}]}",
        "{headers_list: 'hunter2'}",
    ] {
        let yaml = format!(
            "file_format: '1.0'\nlogger_provider: {{processors: [{{batch: {{exporter: {{otlp_http: {exporter}}}}}}}]}}"
        );
        let error = read(&yaml, &[]).unwrap_err();
        assert!(error.starts_with("otel.yaml:2:") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn nor_is_a_line_below_headers() {
    let above =
        "file_format: '1.0'\nlogger_provider:\n  processors:\n  - batch:\n      exporter:\n        otlp_http:\n";
    for (below, line) in [
        ("headers:\n          - {name: api-key, valeu: hunter2}", 8),
        ("headers:\n          - name: api-key\n            valeu: hunter2", 8),
        ("headers:\n          - hunter2", 8),
        ("headers:\n          - name: api key\n            value: hunter2", 8),
        ("headers:\n          - name: api-key\n            value: hunter2: x", 9),
        ("headres: [{name: api-key, value: hunter2}]", 7),
    ] {
        let error = match read(&format!("{above}          {below}\n"), &[]) {
            Ok((_, told)) => told.join("\n"),
            Err(error) => error,
        };
        assert!(error.starts_with(&format!("otel.yaml:{line}:")) && !error.contains("hunter2"), "{below}: {error}");
    }
}

#[test]
fn what_is_exported_by_the_code_alone_is_told() {
    let yaml = "file_format: '1.0'\ntracer_provider: {processors: [{simple: {exporter: {otlp_http: }}}]}";
    let (config, told) = read_by(Builder::default().export_logs(true).export_traces(true), yaml, &[]).unwrap();
    assert!(config.export(Signal::Logs).is_none() && config.export(Signal::Traces).is_some());
    assert!(told.len() == 1 && told[0].starts_with("`export_logs(true)` is not honoured"), "{told:?}");
}

#[test]
fn bombs_are_refused() {
    let aliases: String = (1..9).map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(9))).collect();
    let error = read(&format!("a0: &a0 [x]\n{aliases}"), &[]).unwrap_err();
    assert!(error.contains("the file has more than 10000 nodes"), "{error}");
    let error = read(&format!("{}{}", "[".repeat(65), "]".repeat(65)), &[]).unwrap_err();
    assert!(error.contains("nested deeper than 64 levels"), "{error}");
}

/// The specification's table of substitutions.
#[test]
fn substitutions() {
    let variable = |name: &str| {
        let value = match name {
            "STRING_VALUE" => "value",
            "BOOL_VALUE" => "true",
            "FLOAT_VALUE" => "1.1",
            "INVALID_MAP_VALUE" => "value\nkey:value",
            "REPLACE_ME" => "${DO_NOT_REPLACE_ME}",
            "DO_NOT_REPLACE_ME" => "Never use this value",
            "VALUE_WITH_ESCAPE" => "value$$",
            _ => return None,
        };
        Some(value.to_owned())
    };
    for (text, expected) in [
        ("${STRING_VALUE}", "value"),
        ("${env:STRING_VALUE}", "value"),
        ("${INVALID_MAP_VALUE}", "value\nkey:value"),
        ("foo ${STRING_VALUE} ${FLOAT_VALUE}", "foo value 1.1"),
        ("${UNDEFINED_KEY}", ""),
        ("${UNDEFINED_KEY:-fallback}", "fallback"),
        ("${REPLACE_ME}", "${DO_NOT_REPLACE_ME}"),
        ("${UNDEFINED_KEY:-${STRING_VALUE}}", "${STRING_VALUE}"),
        ("$${STRING_VALUE}", "${STRING_VALUE}"),
        ("$$${STRING_VALUE}", "$value"),
        ("$$$${STRING_VALUE}", "$${STRING_VALUE}"),
        ("$${STRING_VALUE:-fallback}", "${STRING_VALUE:-fallback}"),
        ("${VALUE_WITH_ESCAPE}", "value$$"),
        ("a $ b $$ c", "a $ b $ c"),
    ] {
        assert_eq!(substitute(text, variable).as_deref(), Ok(expected), "{text}");
    }
    for text in ["${STRING_VALUE:?error}", "${1API_KEY}", "${API_$KEY}", "${}"] {
        assert!(substitute(text, variable).is_err(), "{text}");
    }
}
