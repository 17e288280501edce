//! What comes of the environment and of code.

use super::env::Env;
use super::*;
use crate::redact::Redaction;

fn built(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    watchbell_builder(variables).build(true).expect("the environment alone is never an error")
}

fn watchbell_builder(variables: &[(&str, &str)]) -> Builder {
    Builder::default().variables(variables.iter().copied())
}

const OS: &str = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };

fn attribute(config: &Config, key: &str) -> String {
    let found = config.resource.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

#[test]
fn everything_has_a_default() {
    let (config, warnings) = built(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    let (logs, traces) = (config.export(Signal::Logs).unwrap(), config.export(Signal::Traces).unwrap());
    assert_eq!(logs.uri, "http://localhost:4318/v1/logs");
    assert_eq!(traces.uri, "http://localhost:4318/v1/traces");
    assert_eq!((logs.protocol, logs.compression), (Protocol::HttpProtobuf, Compression::None));
    assert_eq!((logs.schedule_delay, traces.schedule_delay), (Duration::from_secs(1), Duration::from_secs(5)));
    assert_eq!(logs.timeout, Duration::from_secs(10));
    assert!(config.has_console() && !config.is_disabled);
    assert_eq!(config.propagators, [Propagator::TraceContext, Propagator::Baggage]);
    assert_eq!(config.buffer_bytes_max, 16 * 1024 * 1024);
    assert!(attribute(&config, "service.name").starts_with("unknown_service:"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn endpoints() {
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const LOGS: &str = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT";
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let uri = |variables: &[(&str, &str)]| built(variables).0.export(Signal::Logs).unwrap().uri.to_string();
    const SERVICE: &str = "opentelemetry.proto.collector.logs.v1.LogsService/Export";
    assert_eq!(uri(&[GRPC]), format!("http://localhost:4317/{SERVICE}"));
    assert_eq!(uri(&[GRPC, (ALL, "https://c:4317")]), format!("https://c:4317/{SERVICE}"));
    assert_eq!(uri(&[GRPC, (LOGS, "http://c:1/")]), format!("http://c:1/{SERVICE}"));
    assert_eq!(uri(&[(ALL, "http://c:1")]), "http://c:1/v1/logs");
    assert_eq!(uri(&[(ALL, "http://c:1/base/")]), "http://c:1/base/v1/logs");
    assert_eq!(uri(&[(ALL, "http://c:1"), (LOGS, "http://d:2/own")]), "http://d:2/own");
    assert_eq!(uri(&[(LOGS, "http://d:2")]), "http://d:2/");
    assert_eq!(uri(&[GRPC, (ALL, "c:4317")]), format!("https://c:4317/{SERVICE}"));
    const INSECURE: (&str, &str) = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    assert_eq!(uri(&[GRPC, INSECURE, (ALL, "c:4317")]), format!("http://c:4317/{SERVICE}"));
    assert_eq!(uri(&[GRPC, INSECURE, (ALL, "https://c:4317")]), format!("https://c:4317/{SERVICE}"));
    let own = ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "false");
    assert_eq!(uri(&[GRPC, INSECURE, own, (ALL, "c:4317")]), format!("https://c:4317/{SERVICE}"));
    assert_eq!(uri(&[(ALL, "http://c:1"), (LOGS, "nonsense")]), "http://c:1/v1/logs");
    assert_eq!(uri(&[(ALL, "http://c:1/base?key=1")]), "http://c:1/base/v1/logs?key=1");
    assert_eq!(uri(&[GRPC, (ALL, "http://c:4317/v1/logs")]), format!("http://c:4317/{SERVICE}"));
}

#[test]
fn a_signals_own_variable_wins() {
    let (config, warnings) = built(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x-tenant = all "),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-tenant=logs"),
        ("OTEL_BSP_SCHEDULE_DELAY", "7"),
    ]);
    let [Some(logs), Some(traces), _] = config.exports else { panic!("both") };
    assert_eq!((logs.protocol, traces.protocol), (Protocol::Grpc, Protocol::HttpProtobuf));
    assert_eq!((logs.compression, traces.compression), (Compression::Gzip, Compression::None));
    assert_eq!(logs.timeout, Duration::from_millis(2500));
    assert_eq!((logs.headers.len(), &logs.headers["x-tenant"]), (1, &"logs".parse().unwrap()), "none is for another's");
    assert_eq!(
        (&traces.headers["api-key"], &traces.headers["x-tenant"]),
        (&"a b".parse().unwrap(), &"all".parse().unwrap())
    );
    assert_eq!(traces.schedule_delay, Duration::from_millis(7));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_signals_headers_that_are_not_understood_are_not_anothers() {
    let (config, warnings) =
        built(&[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a"), ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key")]);
    let [Some(logs), Some(traces), _] = config.exports else { panic!("both") };
    assert_eq!((logs.headers.len(), traces.headers.len(), warnings.len()), (0, 1, 1), "{warnings:?}");
}

/// Of the variables and of code, each header goes to the host that it was set for.
#[test]
fn a_header_is_for_the_host_that_it_was_set_for() {
    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all.example:4318");
    const ALL_KEY: (&str, &str) = ("OTEL_EXPORTER_OTLP_HEADERS", "all=1");
    const LOGS: (&str, &str) = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.example/v1/logs");
    const LOGS_KEY: (&str, &str) = ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "logs=1");
    const SAME: (&str, &str) = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://all.example:4319/v1/logs");
    let (there, elsewhere) = (Some("http://ALL.example:4317"), Some("http://code.example"));
    for (endpoint, variables, of_logs, of_traces) in [
        (None, &[][..], "code", "code"),
        (None, &[ALL, ALL_KEY], "all code", "all code"),
        (None, &[ALL, LOGS, LOGS_KEY], "logs", "code"),
        (None, &[ALL, LOGS], "", "code"),
        (None, &[ALL, SAME], "code", "code"),
        (None, &[LOGS], "code", "code"),
        (None, &[LOGS, LOGS_KEY], "logs", "code"),
        (None, &[LOGS_KEY], "code logs", "code"),
        (elsewhere, &[ALL_KEY], "all code", "all code"),
        (elsewhere, &[ALL, ALL_KEY], "code", "code"),
        (elsewhere, &[LOGS, LOGS_KEY, ALL_KEY], "code", "all code"),
        (there, &[ALL, ALL_KEY, LOGS, LOGS_KEY], "code", "all code"),
    ] {
        let builder = watchbell_builder(variables).header("code", "1");
        let builder = endpoint.into_iter().fold(builder, Builder::endpoint);
        let (config, _) = builder.build(true).unwrap();
        let keys = |signal| {
            let headers = &config.export(signal).unwrap().headers;
            let mut keys: Vec<_> = headers.keys().map(|key| key.as_str()).collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        let found = (keys(Signal::Logs), keys(Signal::Traces));
        assert_eq!(found, (of_logs.to_owned(), of_traces.to_owned()), "{endpoint:?} {variables:?}");
    }
}

/// What is set for the collector is shown to it, and to nobody else.
#[test]
fn a_server_of_levels_has_what_the_collector_has_if_it_is_that() {
    let (config, _) = built(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://Collector.example:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other.example/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=other"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=collector"),
    ]);
    for (url, key) in [
        ("https://collector.example:9464/levels", Some("collector")),
        ("http://collector.example/levels", None),
        ("http://other.example:8080/levels", Some("other")),
        ("https://config.example/levels", None),
    ] {
        let access = config.access_to(&url.parse().unwrap());
        assert_eq!(access.headers.get("api-key").map(|key| key.to_str().unwrap()), key, "{url}");
    }
}

#[test]
fn certificates() {
    const ROOTS: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
    const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
    const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, empty) = (&write("cert.pem", &pair.cert.pem()), &write("empty.pem", ""));
    let key = &write("key.pem", &pair.signing_key.serialize_pem());
    let other_key = &write("other.pem", &other.signing_key.serialize_pem());

    let (config, warnings) = built(&[(ROOTS, certificate), (CERTIFICATE, certificate), (KEY, key)]);
    assert!(warnings.is_empty(), "{warnings:?}");
    let tls = config.export(Signal::Traces).unwrap().tls.clone();
    assert!(tls.roots.is_some() && tls.identity.is_some());
    let http = hyper_util::client::legacy::connect::HttpConnector::new();
    assert!(tls.connector(&Uri::from_static("https://c:1"), http, Protocol::Grpc).is_ok());
    let (config, _) = built(&[("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", certificate)]);
    let roots = |signal| config.export(signal).unwrap().tls.roots.clone();
    assert!(roots(Signal::Logs).is_some() && roots(Signal::Traces).is_none());

    let wrong: [(&[(&str, &str)], &str); 6] = [
        (&[(ROOTS, "/no/ca.pem")], "cannot read certificates from `/no/ca.pem`"),
        (&[(ROOTS, empty)], "holds no certificate"),
        (&[(KEY, key)], "`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` is missing"),
        (&[(CERTIFICATE, certificate)], "`OTEL_EXPORTER_OTLP_CLIENT_KEY` is missing"),
        (&[(CERTIFICATE, certificate), (KEY, empty)], "cannot read a private key from"),
        (&[(CERTIFICATE, certificate), (KEY, other_key)], "do not go together"),
    ];
    for (variables, told) in wrong {
        let (_, warnings) = built(variables);
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.contains("is ignored: ") && warning.contains(told), "{warning}");
    }
    assert!(Builder::default().certificate("/no/ca.pem").build(true).unwrap_err().contains("/no/ca.pem"));
    assert!(Builder::default().client_certificate(certificate, empty).build(true).is_err());
}

#[test]
fn the_resource() {
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=env,deployment.environment.name=pr%C3%BCf,a=1");
    let (config, _) = built(&[attributes]);
    assert_eq!(attribute(&config, "service.name"), "env");
    assert_eq!(attribute(&config, "deployment.environment.name"), "prüf");
    let (config, _) = built(&[attributes, ("OTEL_SERVICE_NAME", "named")]);
    assert_eq!(attribute(&config, "service.name"), "named");
    let builder = watchbell_builder(&[attributes]).service_name("code").resource_attribute("a", 2);
    let (config, _) = builder.build(true).unwrap();
    assert_eq!((attribute(&config, "service.name"), attribute(&config, "a")), ("code".to_owned(), "2".to_owned()));
    assert_eq!(config.resource.iter().filter(|attribute| attribute.key.as_str() == "a").count(), 1);
}

#[test]
fn what_is_detected_of_the_resource() {
    const NAME: &str = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS";
    assert_eq!(attribute(&built(&[]).0, "process.pid"), "");
    let (config, _) = built(&[(NAME, "otel, process,os")]);
    assert_eq!(attribute(&config, "process.pid"), std::process::id().to_string());
    assert_eq!((attribute(&config, "os.type").as_str(), attribute(&config, "host.arch").as_str()), (OS, ""));
    let (config, _) = built(&[(NAME, "*"), ("OTEL_RESOURCE_ATTRIBUTES", "host.arch=own")]);
    assert_eq!(attribute(&config, "host.arch"), "own");
    let (_, warnings) = built(&[(NAME, "process,gcp")]);
    assert!(warnings.len() == 1 && warnings[0].contains("`gcp` is not known"), "{warnings:?}");
}

#[test]
fn exporters_and_switches() {
    let (config, _) = built(&[("OTEL_SDK_DISABLED", "TRUE")]);
    assert!(config.is_disabled && config.export(Signal::Logs).is_none() && config.export(Signal::Traces).is_none());
    let (config, _) = built(&[("OTEL_LOGS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none")]);
    assert!(config.export(Signal::Logs).is_none() && config.export(Signal::Traces).is_none() && !config.has_console());
    let (config, _) = built(&[("OTEL_LOGS_EXPORTER", "console")]);
    assert!(config.export(Signal::Logs).is_none() && config.export(Signal::Traces).is_some() && config.has_console());
    let (config, _) = watchbell_builder(&[("OTEL_LOGS_EXPORTER", "otlp")]).console(true).build(true).unwrap();
    assert!(config.export(Signal::Logs).is_some() && config.has_console());
}

/// As the specification has it of what is not known: as if it were not set.
#[test]
fn an_exporter_or_propagator_that_is_misspelt_turns_nothing_off() {
    let (config, warnings) =
        built(&[("OTEL_LOGS_EXPORTER", "oltp"), ("OTEL_TRACES_EXPORTER", "jaeger"), ("OTEL_PROPAGATORS", "jaeger")]);
    assert!(config.export(Signal::Logs).is_some() && config.export(Signal::Traces).is_some() && config.has_console());
    assert_eq!(config.propagators, [Propagator::TraceContext, Propagator::Baggage]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let (config, _) = built(&[("OTEL_LOGS_EXPORTER", "none,kafka")]);
    assert!(config.export(Signal::Logs).is_none() && !config.has_console());
}

#[test]
fn what_the_builder_sets_the_environment_sets_too() {
    let (config, warnings) = built(&[
        ("WATCHBELL_REDACT", "usual, iban,values:emails,values:shoes"),
        ("WATCHBELL_BAGGAGE_ATTRIBUTES", "tenant.id, session.id"),
        ("WATCHBELL_BUFFER_BYTES_MAX", "1048576"),
        ("WATCHBELL_SHUTDOWN_TIMEOUT", "250"),
        ("WATCHBELL_PANICS", "false"),
    ]);
    let redaction = config.redaction.unwrap();
    assert!(
        redaction.fate("user.password").is_some() && redaction.fate("iban").is_some() && redaction.fate("id").is_none()
    );
    assert_eq!(redaction.scrubbed("mail ada@example.com").as_deref(), Some("mail [redacted]"));
    assert_eq!(config.baggage_attributes, ["tenant.id", "session.id"]);
    assert_eq!((config.buffer_bytes_max, config.shutdown_timeout), (1 << 20, Duration::from_millis(250)));
    assert!(!config.panics);
    assert!(warnings.len() == 1 && warnings[0].contains("`values:shoes` is not known"), "{warnings:?}");
    let builder = watchbell_builder(&[("WATCHBELL_PANICS", "false"), ("WATCHBELL_REDACT", "usual")]).panics(true);
    let (config, _) = builder.redact(Redaction::new()).build(true).unwrap();
    assert!(config.panics && config.redaction.unwrap().fate("password").is_none());
}

#[test]
fn limits() {
    let all = [("OTEL_ATTRIBUTE_COUNT_LIMIT", "5"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7")];
    let (config, _) = built(&[all[0], all[1], ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3")]);
    let Limits { attributes_per_record_max, record_value_chars_max, span_value_chars_max, spans } = config.limits;
    assert_eq!((attributes_per_record_max, record_value_chars_max, span_value_chars_max), (3, 7, 7));
    assert_eq!((spans.max_attributes_per_span, spans.max_attributes_per_link, spans.max_events_per_span), (5, 5, 128));
    let (config, warnings) = built(&[("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1"), ("OTEL_SPAN_EVENT_COUNT_LIMIT", "0")]);
    assert_eq!((config.limits.attributes_per_record_max, config.limits.spans.max_events_per_span), (128, 0));
    assert!(warnings.len() == 1 && warnings[0].contains("`-1` is not a number"), "{warnings:?}");
}

#[test]
fn propagators() {
    let (config, warnings) = built(&[("OTEL_PROPAGATORS", "b3multi, tracecontext,b3,b3")]);
    assert_eq!(config.propagators, [Propagator::B3Multi, Propagator::TraceContext, Propagator::B3]);
    let (none, _) = built(&[("OTEL_PROPAGATORS", "none")]);
    assert!(none.propagators.is_empty() && warnings.is_empty(), "{warnings:?}");
}

#[test]
fn what_is_set_in_code_wins_over_limits_propagators_and_exporters() {
    let variables = [
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "4"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:2/own"),
    ];
    let builder = watchbell_builder(&variables).attributes_max(9).attribute_chars_max(11).propagators("b3, baggage");
    let (config, warnings) = builder.export_logs(false).export_traces(true).build(true).unwrap();
    let Limits { attributes_per_record_max, record_value_chars_max, span_value_chars_max, spans } = config.limits;
    assert_eq!((attributes_per_record_max, record_value_chars_max, span_value_chars_max), (9, 11, 11));
    assert_eq!((spans.max_attributes_per_span, spans.max_attributes_per_event, spans.max_events_per_span), (9, 9, 4));
    assert_eq!(config.propagators, [Propagator::B3, Propagator::Baggage]);
    assert!(config.export(Signal::Logs).is_none() && config.has_console());
    assert_eq!(config.export(Signal::Traces).unwrap().uri, "http://d:2/own");
    assert!(warnings.is_empty(), "{warnings:?}");
    let error = watchbell_builder(&[]).propagators("b3,jaeger").build(true).unwrap_err();
    assert!(error.starts_with("the propagator `jaeger` is not known; write `tracecontext`"), "{error}");
    let (config, _) = watchbell_builder(&[("OTEL_SDK_DISABLED", "true")]).export_logs(true).build(true).unwrap();
    assert!(config.export(Signal::Logs).is_none(), "what is disabled stays so");
}

#[test]
fn samplers() {
    let sampler = |name, argument| {
        let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        let (config, warnings) = built(&variables);
        (format!("{:?}", config.sampler), warnings.len())
    };
    assert_eq!(sampler("always_off", ""), ("AlwaysOff".to_owned(), 0));
    assert_eq!(sampler("traceidratio", "0.25"), ("TraceIdRatioBased(0.25)".to_owned(), 0));
    assert_eq!(sampler("traceidratio", "2"), ("TraceIdRatioBased(1.0)".to_owned(), 1));
    assert_eq!(sampler("parentbased_traceidratio", "0.5"), ("ParentBased(TraceIdRatioBased(0.5))".to_owned(), 0));
    assert_eq!(sampler("parentbased_always_off", ""), ("ParentBased(AlwaysOff)".to_owned(), 0));
    assert_eq!(sampler("xray", ""), ("ParentBased(AlwaysOn)".to_owned(), 1));
}

#[test]
fn what_is_not_understood_is_told_once_and_ignored() {
    let cases = [
        (
            "OTEL_SDK_DISABLED",
            "yes",
            "OTEL_SDK_DISABLED counts as `false`: `yes` is not a boolean; write `true` or `false`",
        ),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http", "`http` is not a protocol; write `grpc`, `http/protobuf` or"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "br", "`br` is not a compression; write `gzip` or `none`"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "collector:4318", "`collector:4318` is not an endpoint; write `http://"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "10s", "`10s` is not a number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key", "it is not a list of `key=value,key=value`"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "a `%` is not followed by two hex digits"),
        ("OTEL_LOGS_EXPORTER", "otlp,kafka", "the exporter `kafka` is not known; write `otlp`, `console` or `none`"),
        (
            "OTEL_PROPAGATORS",
            "tracecontext,xray",
            "`xray` is not known; write `tracecontext`, `baggage`, `b3`, `b3multi` or `none`",
        ),
        ("RUST_LOG", "info,checkout=loud", "the directive `checkout=loud` is ignored"),
        ("RUST_LOG", "inof", "`inof` is taken for a target: did you mean `info`?"),
        ("RUST_LOG", "info;x", "the directive `info;x` is ignored: `info;x` is not a target"),
        ("WATCHBELL_PANICS", "maybe", "WATCHBELL_PANICS is ignored: `maybe` is not a boolean; write `true` or `false`"),
        ("WATCHBELL_SINK", "stderr", "WATCHBELL_SINK is not known: did you mean `WATCHBELL_SINKS`?"),
    ];
    for (name, value, told) in cases {
        let (config, warnings) = built(&[(name, value)]);
        assert!(config.panics);
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].starts_with(name) && warnings[0].contains(told), "{warnings:?}");
    }
}

#[test]
fn sinks_that_cannot_be_are_errors_all_together() {
    let sinks = "stderr format=jsno; stdout; file=x rotate_at=100MX; stdout format={tme}";
    let errors = watchbell_builder(&[("WATCHBELL_SINKS", sinks)]).build(true).unwrap_err();
    for told in [
        "WATCHBELL_SINKS: `jsno` is not a format",
        "    stderr format=jsno",
        "WATCHBELL_SINKS: `100MX` is not a size; write `100MiB`",
        "    file=x rotate_at=100MX",
        "WATCHBELL_SINKS: `tme` is not known in a pattern; did you mean `time`?",
        "                  ^^^^^",
    ] {
        assert!(errors.lines().any(|line| line.starts_with(told)), "{errors}");
    }
}

#[test]
fn our_own_booleans_are_read_as_people_write_them() {
    for (value, expected) in [("1", true), ("Yes", true), ("on", true), ("0", false), ("no", false), ("OFF", false)] {
        let (config, warnings) = built(&[("WATCHBELL_PANICS", value)]);
        assert_eq!((config.panics, warnings), (expected, vec![]), "{value}");
    }
}

#[test]
fn every_name_of_ours_is_documented() {
    let mut told: Vec<String> = include_str!("../../ENVIRONMENT.md").split('`').flat_map(expanded).collect();
    told.retain(|name| {
        name.starts_with("WATCHBELL_") && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    });
    told.sort();
    told.dedup();
    let mut names = super::env::NAMES;
    names.sort();
    assert_eq!(told, names);
}

#[test]
fn a_variable_for_all_signals_is_told_once() {
    let (_, warnings) = built(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"), ("OTEL_EXPORTER_OTLP_HEADERS", "x")]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn what_is_wrong_in_code_is_an_error() {
    let error = |builder: Builder| builder.variables([("", "")]).build(true).expect_err("an error");
    assert!(error(Builder::default().endpoint("localhost:4317")).contains("is not an endpoint"));
    let told = error(Builder::default().endpoint("localhost:4317?api-key=hunter2"));
    assert!(told.contains("`localhost:4317` is not an endpoint"), "{told}");
    assert!(error(Builder::default().levels("info,a=b=c")).contains("`b=c` is not a level"));
    assert!(error(Builder::default().header("a b", "c")).contains("a header's name is not valid"));
}

#[test]
fn levels() {
    use tracing_core::Level;
    let enabled = |directives: &str, target: &str| {
        let mut env = Env::new(None);
        let targets = env.directives(directives);
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        levels.into_iter().filter(|level| targets.allow(target, *level)).count()
    };
    assert_eq!(enabled("", "any"), 3);
    assert_eq!((enabled("warn", "any"), enabled("off", "any")), (2, 0));
    assert_eq!((enabled("info,checkout=debug", "checkout::cart"), enabled("info,checkout=debug", "hyper")), (4, 3));
    assert_eq!((enabled("checkout", "checkout"), enabled("checkout", "hyper")), (5, 0));
    assert_eq!((enabled("loud=x", "any"), enabled("warn,loud=x", "any")), (3, 2));
}

/// What each kind of value means, by the specification's rules: variables, what is asked of the configuration, and how many warnings.
#[test]
fn values_are_read_as_the_specification_says() {
    let logs = |config: &Config| config.export(Signal::Logs).unwrap().clone();
    let millis = Duration::from_millis;
    type Case = (&'static [(&'static str, &'static str)], fn(&Config) -> String, &'static str, usize);
    let cases: &[Case] = &[
        // an empty value, or one of blanks, is unset
        (&[("OTEL_SDK_DISABLED", "")], |config| config.is_disabled.to_string(), "false", 0),
        (
            &[("OTEL_SERVICE_NAME", " "), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a")],
            |config| attribute(config, "service.name"),
            "a",
            0,
        ),
        // a boolean is true only by `true`, in any case
        (&[("OTEL_SDK_DISABLED", "True")], |config| config.is_disabled.to_string(), "true", 0),
        (&[("OTEL_SDK_DISABLED", "FALSE")], |config| config.is_disabled.to_string(), "false", 0),
        (&[("OTEL_SDK_DISABLED", "1")], |config| config.is_disabled.to_string(), "false", 1),
        // a name of a set is read in any case
        (&[("OTEL_TRACES_SAMPLER", "Always_Off")], |config| format!("{:?}", config.sampler), "AlwaysOff", 0),
        (
            &[("OTEL_PROPAGATORS", "B3,TraceContext")],
            |config| format!("{:?}", config.propagators),
            "[B3, TraceContext]",
            0,
        ),
        (&[("OTEL_LOGS_EXPORTER", "OTLP")], |config| config.has_console().to_string(), "false", 0),
        (&[("OTEL_LOG_LEVEL", "Error")], |config| format!("{:?}", config.verbosity), "Error", 0),
        (&[("OTEL_LOG_LEVEL", "none")], |config| format!("{:?}", config.verbosity), "None", 0),
        (&[("OTEL_LOG_LEVEL", "loud")], |config| format!("{:?}", config.verbosity), "Info", 1),
        // an argument counts only with its sampler
        (&[("OTEL_TRACES_SAMPLER_ARG", "2")], |config| format!("{:?}", config.sampler), "ParentBased(AlwaysOn)", 0),
        (
            &[("OTEL_TRACES_SAMPLER", "jaeger_remote")],
            |config| format!("{:?}", config.sampler),
            "ParentBased(AlwaysOn)",
            1,
        ),
        // one mistake discards a whole list of pairs
        (&[("OTEL_RESOURCE_ATTRIBUTES", "a=1,b")], |config| attribute(config, "a"), "", 1),
        (&[("OTEL_RESOURCE_ATTRIBUTES", "a=1,=2")], |config| attribute(config, "a"), "", 1),
        (&[("OTEL_RESOURCE_ATTRIBUTES", "a=b=c")], |config| attribute(config, "a"), "b=c", 0),
        (&[("OTEL_RESOURCE_ATTRIBUTES", "a=%+f")], |config| attribute(config, "a"), "", 1),
    ];
    for (variables, asked, expected, count) in cases {
        let (config, warnings) = built(variables);
        assert_eq!((asked(&config).as_str(), warnings.len()), (*expected, *count), "{variables:?}: {warnings:?}");
    }
    let (config, warnings) = built(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "2.5"),
    ]);
    assert_eq!((logs(&config).timeout, logs(&config).schedule_delay), (millis(10_000), millis(0)));
    assert_eq!((logs(&config).export_timeout, warnings.len()), (None, 2));
}

#[test]
fn a_timeout_of_zero_is_no_limit() {
    const DAY: Duration = Duration::from_secs(86_400);
    let (config, _) = built(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0"), ("OTEL_BSP_EXPORT_TIMEOUT", "0")]);
    let traces = config.export(Signal::Traces).unwrap();
    assert!(traces.timeout > DAY && traces.export_timeout.unwrap() > DAY);
    let (config, _) = watchbell_builder(&[]).timeout(Duration::ZERO).build(true).unwrap();
    assert!(config.export(Signal::Logs).unwrap().timeout > DAY);
}

#[test]
fn batches() {
    let (config, warnings) = built(&[
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "7"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "101"),
    ]);
    let (logs, traces) = (config.export(Signal::Logs).unwrap(), config.export(Signal::Traces).unwrap());
    assert_eq!((logs.queue_records_max, logs.batch_records_max), (100, 10));
    assert_eq!(logs.export_timeout, Some(Duration::from_millis(7)));
    assert_eq!((traces.queue_records_max, traces.batch_records_max), (100, u64::MAX));
    assert_eq!(
        warnings,
        ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE is ignored: 101 is more than `OTEL_BSP_MAX_QUEUE_SIZE`, 100"]
    );
    let (_, warnings) = built(&[("OTEL_BLRP_MAX_QUEUE_SIZE", "0")]);
    assert_eq!(warnings, ["OTEL_BLRP_MAX_QUEUE_SIZE is ignored: `0` is not a number of 1 or more"]);
}

#[test]
fn what_may_be_secret_is_never_told() {
    let cases = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Basic c2VjcmV0"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Basic c2VjcmV0=="),
        ("OTEL_EXPORTER_OTLP_HEADERS", "=c2VjcmV0"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=c2VjcmV0%0a"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:c2VjcmV0@host"),
    ];
    for (name, value) in cases {
        let (_, warnings) = built(&[(name, value)]);
        assert!(warnings.len() == 1 && warnings[0].starts_with(name), "{warnings:?}");
        assert!(!warnings[0].contains("c2VjcmV0"), "{warnings:?}");
    }
    let builder = watchbell_builder(&cases).header("authorization", "Bearer c2VjcmV0");
    let told = format!("{builder:?}{:?}", builder.clone().build(true).unwrap().0);
    assert!(!told.contains("c2VjcmV0"), "{told}");
    let error = watchbell_builder(&[]).endpoint("http://user:c2VjcmV0@host").build(true).unwrap_err();
    assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("c2VjcmV0"), "{error}");
}

#[test]
fn an_invalid_boolean_of_one_signal_is_false_for_it() {
    let (config, warnings) = built(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "yes"),
    ]);
    let scheme = |signal| config.export(signal).unwrap().uri.scheme_str().unwrap().to_owned();
    assert_eq!((scheme(Signal::Logs).as_str(), scheme(Signal::Traces).as_str()), ("https", "http"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// The specification's names, and the documentation's, which may stand for several: `OTEL_{BLRP,BSP}_SCHEDULE_DELAY`.
#[test]
fn every_name_of_the_specification_is_documented() {
    let told: Vec<String> = include_str!("../../ENVIRONMENT.md").split('`').flat_map(expanded).collect();
    let prefixes = |prefixes: &[&str], names: &[&str]| -> Vec<String> {
        prefixes.iter().flat_map(|prefix| names.iter().map(move |name| format!("{prefix}{name}"))).collect()
    };
    let batch = ["SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE"];
    let otlp = ["ENDPOINT", "INSECURE", "CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE", "HEADERS", "COMPRESSION"];
    let otlp_prefixes = ["", "LOGS_", "TRACES_", "METRICS_"].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}"));
    let otlp_prefixes = otlp_prefixes.each_ref().map(String::as_str);
    let names = [
        prefixes(&["OTEL_BSP_", "OTEL_BLRP_"], &batch),
        prefixes(&otlp_prefixes, &otlp),
        prefixes(&otlp_prefixes, &["TIMEOUT", "PROTOCOL"]),
        prefixes(&["OTEL_"], &["SDK_DISABLED", "ENTITIES", "RESOURCE_ATTRIBUTES", "SERVICE_NAME", "LOG_LEVEL"]),
        prefixes(&["OTEL_"], &["PROPAGATORS", "TRACES_SAMPLER", "TRACES_SAMPLER_ARG"]),
        prefixes(
            &["OTEL_", "OTEL_SPAN_", "OTEL_LOGRECORD_"],
            &["ATTRIBUTE_VALUE_LENGTH_LIMIT", "ATTRIBUTE_COUNT_LIMIT"],
        ),
        prefixes(&["OTEL_SPAN_"], &["EVENT_COUNT_LIMIT", "LINK_COUNT_LIMIT"]),
        prefixes(&["OTEL_EVENT_", "OTEL_LINK_"], &["ATTRIBUTE_COUNT_LIMIT"]),
        prefixes(&["OTEL_EXPORTER_"], &["ZIPKIN_ENDPOINT", "ZIPKIN_TIMEOUT", "PROMETHEUS_HOST", "PROMETHEUS_PORT"]),
        prefixes(&["OTEL_TRACES_", "OTEL_LOGS_", "OTEL_METRICS_"], &["EXPORTER"]),
        prefixes(&["OTEL_METRIC_EXPORT_"], &["INTERVAL", "TIMEOUT"]),
        prefixes(&["OTEL_EXPORTER_OTLP_METRICS_"], &["TEMPORALITY_PREFERENCE", "DEFAULT_HISTOGRAM_AGGREGATION"]),
        prefixes(&["OTEL_METRICS_"], &["EXEMPLAR_FILTER"]),
        prefixes(&["OTEL_"], &["CONFIG_FILE", "EXPERIMENTAL_CONFIG_FILE"]),
    ];
    let untold: Vec<_> = names.into_iter().flatten().filter(|name| !told.contains(name)).collect();
    assert!(untold.is_empty(), "ENVIRONMENT.md lacks {untold:?}");
}

/// All names that one with `{A,B}` in it stands for.
fn expanded(name: &str) -> Vec<String> {
    let Some((before, (list, after))) = name.split_once('{').and_then(|(b, rest)| Some((b, rest.split_once('}')?)))
    else {
        return vec![name.to_owned()];
    };
    list.split(',').flat_map(|choice| expanded(&format!("{before}{choice}{after}"))).collect()
}

#[cfg(feature = "metrics")]
#[test]
fn metrics() {
    let (config, warnings) = built(&[]);
    let metrics = config.export(Signal::Metrics).unwrap();
    assert_eq!(metrics.uri, "http://localhost:4318/v1/metrics");
    assert_eq!((metrics.schedule_delay, metrics.export_timeout), (Duration::from_secs(60), None));
    assert!(warnings.is_empty(), "{warnings:?}");
    let (config, warnings) = built(&[
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "7"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "sum"),
    ]);
    assert!(config.export(Signal::Metrics).is_none());
    assert_eq!(format!("{:?}", config.metrics.temporality), "LowMemory");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let builder = watchbell_builder(&[("OTEL_METRIC_EXPORT_INTERVAL", "5")]).schedule_delay(Duration::from_secs(9));
    let (config, _) = builder.clone().build(true).unwrap();
    assert_eq!(config.export(Signal::Metrics).unwrap().schedule_delay, Duration::from_millis(5));
    let (config, _) = builder.metric_interval(Duration::from_secs(3)).build(true).unwrap();
    assert_eq!(config.export(Signal::Metrics).unwrap().schedule_delay, Duration::from_secs(3));
}

#[test]
fn a_spool() {
    let of = |bytes, when| [("WATCHBELL_SPOOL_BYTES_MAX", bytes), ("WATCHBELL_SPOOL_WHEN_FULL", when)];
    let folder = ("WATCHBELL_SPOOL_DIR", "/var/spool/checkout");
    let built = |variables: [(&str, &str); 2]| {
        let (config, warnings) = built(&[&variables[..], &[folder]].concat());
        (config.spool.expect("a folder"), warnings)
    };
    let spool = Spool::in_dir("/var/spool/checkout");
    assert_eq!(built(of("", "")), (spool.clone(), vec![]));
    assert_eq!(built(of("1000", "refuse_newest")), (spool.clone().bytes_max(1000).refuse_newest(), vec![]));
    let mapped = |value| self::built(&[folder, ("WATCHBELL_SPOOL_MAPPED", value)]);
    assert_eq!(mapped("true").0.spool, Some(spool.clone().mapped()));
    assert_eq!(
        mapped("maybe").1,
        ["WATCHBELL_SPOOL_MAPPED is ignored: `maybe` is not a boolean; write `true` or `false`"]
    );
    let warnings = [
        "WATCHBELL_SPOOL_BYTES_MAX is ignored: `1GiB` is not a number of bytes, 1 or more, without a unit",
        "WATCHBELL_SPOOL_WHEN_FULL is ignored: `burn` is nothing that a spool does; write `drop_oldest` or `refuse_newest`",
    ];
    assert_eq!(built(of("1GiB", "burn")), (spool, warnings.map(str::to_owned).to_vec()));
}
