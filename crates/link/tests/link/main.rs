//! Links from outside: who gets one, what happens to them, and how much strangers may ask for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod house;
mod lasting;
mod others;
mod paths;
mod strangers;
mod who;
