//! What time it is.

use std::time::Instant;

/// Now, by the clock of the runtime: in simulations time goes on only when nobody has anything to do.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
