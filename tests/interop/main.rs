//! midged against real clients and beside real servers. Run by `cargo xtask interop`, which builds or fetches
//! the peers and names them in the environment.

mod access;
mod backend;
mod backend_attacks;
mod backend_bus;
mod backend_rules;
mod bad_input;
mod clients;
mod cluster;
mod cluster_rules;
mod configuration;
mod credentials;
mod daemon;
mod dice;
mod differential;
mod forward;
mod hostile;
mod leafnode;
mod mesh;
mod monitoring;
mod readme;
mod reload;
mod servers;
mod shape;
mod system;
mod transcripts;
