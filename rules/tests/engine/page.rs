//! `docs/time.md`: its examples do what the page says.

use std::path::Path;

use crate::script::Runner;

/// A rule file stands between ```` ```yaml ````, what happens then between ```` ```text ````; pictures have no `----`. `UPDATE=1` writes
/// what comes out into the page.
#[test]
fn the_page_on_time_tells_the_truth() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/time.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (mut runner, mut examples) = (Runner::default(), 0);
    let mut parts: Vec<String> = page.split("```").map(str::to_owned).collect();
    for fence in parts.iter_mut().skip(1).step_by(2) {
        if let Some(rules) = fence.strip_prefix("yaml\n") {
            let out = runner.block(&format!("rules\n{}\n----", rules.trim_end()));
            assert!(out.ends_with("----"), "{out}");
        } else if let Some(script) = fence.strip_prefix("text\n").filter(|script| script.contains("\n----")) {
            let blocks = script.trim_end().split("\n\n").map(|block| runner.block(block));
            *fence = format!("text\n{}\n", blocks.collect::<Vec<_>>().join("\n\n"));
            examples += 1;
        }
    }
    assert!(examples > 8, "{examples} examples");
    let result = parts.join("```");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, result).unwrap();
    } else {
        let differing = page.lines().zip(result.lines()).find(|(told, is)| told != is);
        assert!(page == result, "run again with UPDATE=1 if this is right: {differing:?}");
    }
}
