//! What came of a test, for a person.

use super::{TestResult, timeline};

impl TestResult {
    /// Whether all that was expected came.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// The failures, each at its place in the file, whose text this is, with what was expected and what came, and then the timeline.
    pub fn render(&self, text: &str) -> String {
        self.render_with(|diagnostic| diagnostic.render(text))
    }

    /// Like [`render`](Self::render), in a terminal's colours.
    pub fn render_styled(&self, text: &str) -> String {
        self.render_with(|diagnostic| diagnostic.render_styled(text))
    }

    fn render_with(&self, render: impl Fn(&crate::diagnostic::Diagnostic) -> String) -> String {
        let mut out = String::new();
        for failure in &self.failures {
            out.push_str(&render(&failure.diagnostic));
            out.push('\n');
            if !failure.diff.is_empty() {
                out.push_str("\n  - expected, + got\n");
            }
            failure.diff.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
            out.push('\n');
        }
        if !self.failing_stages.is_empty() {
            out.push_str("stages that failed\n");
            self.failing_stages.iter().for_each(|stage| out.push_str(&format!("  {stage}\n")));
            out.push('\n');
        }
        out.push_str(&format!("timeline, from {}\n", self.start));
        out.push_str(&timeline::render(&self.timeline, self.start));
        out
    }
}
