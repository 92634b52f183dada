//! Messages as they are on the wire, made from `proto/`.

/// What messages are hashed with.
pub mod hash;
/// Messages of signed channels.
pub mod signed;
