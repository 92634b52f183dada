//! What others must be able to rely on: the forms of a key, and what is believed of a message.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod forms;
mod signed;
