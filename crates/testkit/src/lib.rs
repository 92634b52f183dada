//! What midge's tests share. Not published, and used on the dev side only.

pub mod alloc;
pub mod carrier;
pub mod process;
pub mod raw;
pub mod tls;
