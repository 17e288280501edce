//! LogQL, the language of expressions: text to tree, tree to text, and what is wrong with either.
//!
//! The grammar and its precedence are Loki's.

pub mod ast;
