//! The router from outside: sessions on peers without sockets, and a clock that stands still.

#![expect(clippy::disallowed_methods, reason = "a test needs some instant to count from, whichever")]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(not(shuttle))]
mod accounts;
#[cfg(not(shuttle))]
mod allocation;
#[cfg(not(shuttle))]
mod delivery;
#[cfg(not(shuttle))]
mod house;
#[cfg(not(shuttle))]
mod leaf;
#[cfg(not(shuttle))]
mod local;
#[cfg(not(shuttle))]
mod members;
#[cfg(shuttle)]
mod model;
#[cfg(not(shuttle))]
mod route;
#[cfg(not(shuttle))]
mod slow;

#[cfg(not(shuttle))]
#[global_allocator]
static COUNTING: midge_testkit::alloc::Counting = midge_testkit::alloc::Counting;
