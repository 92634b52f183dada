//! A part of the interest table under its own lock, which nobody takes to find it empty.

use crate::sync::RwLock;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What is locked, and can say whether it is empty.
pub(crate) trait Contents {
    fn is_empty(&self) -> bool;
}

/// A part and its lock. Most parts of most tables are empty, and taking a lock writes to memory that all threads
/// read.
#[derive(Debug, Default)]
pub(crate) struct Shared<T> {
    is_used: AtomicBool,
    part: RwLock<T>,
}

impl<T: Contents> Shared<T> {
    pub(crate) fn new(part: T) -> Self {
        Self { is_used: AtomicBool::new(!part.is_empty()), part: RwLock::new(part) }
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut part = self.part.write();
        let done = change(&mut part);
        // Known before the generation changes: whoever sees an older value has an older stamp, too.
        self.is_used.store(!part.is_empty(), Ordering::Release);
        done
    }

    #[inline]
    pub(crate) fn read(&self, read: impl FnOnce(&T)) {
        if self.is_used.load(Ordering::Acquire) {
            read(&self.part.read());
        }
    }
}
