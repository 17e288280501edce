//! What the grammar allows and LogQL does not.

use super::ast::*;
use crate::diagnostic::Diagnostic;

/// All that is wrong with a tree.
pub(crate) fn check(_expr: &Expr) -> Vec<Diagnostic> {
    Vec::new()
}

/// Whether the engine evaluates all of it.
pub fn evaluable(_expr: &MetricExpr) -> Result<(), Vec<Diagnostic>> {
    Ok(())
}
