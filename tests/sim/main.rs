//! Whole meshes in one thread and in a time of their own: networks lose, delay and cut, peers end and come back, and what
//! must hold holds. One file for each thing that must.
//!
//! `cargo xtask sim --seed N` runs one seed again, as it ran before; `--count N` runs so many.

mod converges;
mod lossless;
mod memory;
mod once;
mod order;
mod repeats;
mod spare;
mod world;
