//! The router from outside: sessions on peers without sockets, and a clock that stands still.

#![expect(clippy::disallowed_methods, reason = "a test needs some instant to count from, whichever")]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounts;
mod allocation;
mod delivery;
mod house;
mod local;
mod slow;

#[global_allocator]
static COUNTING: midge_testkit::alloc::Counting = midge_testkit::alloc::Counting;
