//! Tests that need more than one crate. Nothing is shared between them but `midge-testkit`.
