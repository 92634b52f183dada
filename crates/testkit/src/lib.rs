//! What midge's tests share.

pub mod alloc;
