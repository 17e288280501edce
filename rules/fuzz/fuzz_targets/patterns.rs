//! Any lines are masked and mined to the same end each time, also by an engine that is stored and restored between each two.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::engine::{Engine, Output};
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::time::Timestamp;

const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let text = r#"groups: [{name: fuzz, rules: [
        {alert: New, detect: {new_pattern: {where: '{service_name="fuzz"}', learn: 1s, window: 30s, reappear_after: 2m, max_new: 3}}}]}]"#;
    let file = rule_file::parse("rules.yaml", text).unwrap();
    Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap())
});

fuzz_target!(|lines: Vec<&str>| {
    let (mut whole, mut stored) = (Engine::new(PLAN.clone(), START), Engine::new(PLAN.clone(), START));
    for (n, line) in lines.iter().take(64).enumerate() {
        let received = START + Duration::from_secs(n as u64 * 7);
        let batch = batch(line, received);
        assert_eq!(judge(&mut whole, &batch, received), judge(&mut stored, &batch, received), "{line:?}");
        stored = Engine::restore(PLAN.clone(), &stored.snapshot()).unwrap();
    }
});

fn batch(line: &str, at: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    let resource = encode::resource([("service.name", AnyValue::String("fuzz"))]);
    encode::put_resource_logs(&mut out, &resource, |out| {
        encode::put_scope_logs(out, &[], |out| {
            encode::put_log_record(out, |out| {
                out.time_unix_nano(at.0 as u64);
                out.body(&AnyValue::String(line));
            });
        });
    });
    out
}

fn judge(engine: &mut Engine, batch: &[u8], received: Timestamp) -> Vec<Output> {
    let matched = engine.plan().match_batch(batch, received);
    engine.handle_batch(matched, batch, received);
    std::iter::from_fn(|| engine.poll_output()).collect()
}
