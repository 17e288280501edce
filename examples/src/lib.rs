//! Programs to copy from; the page beside them, README.md, says which is for what.
