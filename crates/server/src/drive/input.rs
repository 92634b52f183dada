//! What has been read and not used yet.

use std::cell::RefCell;
use std::io;
use std::task::{Poll, ready};

use midge_router::{Input as Done, Next};
use tokio::io::ReadBuf;

/// Bytes of one thread's read buffer.
const SHARED_BYTES: usize = 64 * 1024;

thread_local! {
    /// What the thread's connections read into, one after the other.
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; SHARED_BYTES]);
}

/// A connection's unused input. An idle connection has none, and no memory for it.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Bytes that were read and not used.
    rest: Vec<u8>,
    /// Length that `rest` must reach before it is worth a look.
    need: usize,
}

impl Input {
    /// Reads once and has the bytes handled; `None` at the end of the stream.
    ///
    /// A piece that is much longer than what there is of it gets a buffer of its own, so that it is not copied
    /// with every read; everything else is read into the thread's.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
        handle: impl FnOnce(&[u8]) -> Option<Done>,
    ) -> Poll<io::Result<Option<Next>>> {
        if self.need > SHARED_BYTES / 2 {
            self.fill_own(read, handle)
        } else {
            SHARED.with_borrow_mut(|shared| self.fill_shared(shared, read, handle))
        }
    }

    fn fill_shared(
        &mut self,
        shared: &mut [u8],
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
        handle: impl FnOnce(&[u8]) -> Option<Done>,
    ) -> Poll<io::Result<Option<Next>>> {
        let mut buffer = ReadBuf::new(shared);
        buffer.put_slice(&self.rest);
        ready!(read(&mut buffer))?;
        let bytes = buffer.filled();
        if bytes.len() == self.rest.len() {
            return Poll::Ready(Ok(None));
        }
        if bytes.len() < self.need {
            self.rest = bytes.to_vec();
            return Poll::Ready(Ok(Some(Next::Read)));
        }
        let next = self.note(bytes, handle(bytes));
        Poll::Ready(Ok(Some(next)))
    }

    fn fill_own(
        &mut self,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
        handle: impl FnOnce(&[u8]) -> Option<Done>,
    ) -> Poll<io::Result<Option<Next>>> {
        let before = self.rest.len();
        // Zeroed as it goes, a piece at a time: a size that was only announced costs nothing.
        let room = (before + SHARED_BYTES.max(before)).min(self.need);
        self.rest.reserve_exact(self.need - before);
        self.rest.resize(room, 0);
        let mut buffer = ReadBuf::new(&mut self.rest);
        buffer.set_filled(before);
        let result = read(&mut buffer);
        let filled = buffer.filled().len();
        self.rest.truncate(filled);
        ready!(result)?;
        if filled == before {
            return Poll::Ready(Ok(None));
        }
        if filled < self.need {
            return Poll::Ready(Ok(Some(Next::Read)));
        }
        let bytes = std::mem::take(&mut self.rest);
        let next = self.note(&bytes, handle(&bytes));
        Poll::Ready(Ok(Some(next)))
    }

    /// Offers the rest once more.
    pub(super) fn again(&mut self, handle: impl FnOnce(&[u8]) -> Done) -> Next {
        let bytes = std::mem::take(&mut self.rest);
        let done = handle(&bytes);
        self.note(&bytes, Some(done))
    }

    /// Keeps what was not used.
    fn note(&mut self, bytes: &[u8], done: Option<Done>) -> Next {
        let Some(done) = done else {
            self.rest = bytes.to_vec();
            return Next::Read;
        };
        let rest = bytes.get(done.used..).unwrap_or_default();
        self.need = done.need;
        self.rest = rest.to_vec();
        done.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        move |buffer| {
            let take = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..take]);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_not_used_comes_again() {
        let mut input = Input::default();
        let done = Done { used: 2, need: 4, next: Next::Read };
        assert!(matches!(input.fill(read(b"abc"), |_| Some(done)), Poll::Ready(Ok(Some(Next::Read)))));
        let unused = input.fill(read(b"d"), |_| panic!("three bytes are not worth a look"));
        assert!(unused.is_ready());
        let mut seen = Vec::new();
        let all = Done { used: 4, need: 1, next: Next::Read };
        let _ = input.fill(read(b"ef"), |bytes| {
            seen = bytes.to_vec();
            Some(all)
        });
        assert_eq!(seen, b"cdef");
        assert_eq!(input.rest.capacity(), 0, "an idle connection keeps no buffer");
        assert!(matches!(input.fill(read(b""), |_| Some(all)), Poll::Ready(Ok(None))));
    }

    #[test]
    fn an_announced_size_costs_nothing_until_it_comes() {
        let mut input = Input::default();
        let announced = Done { used: 0, need: 10_000_000, next: Next::Read };
        let _ = input.fill(read(b"x"), |_| Some(announced));
        let piece = vec![7; 1_000_000];
        let mut rounds = 0;
        let mut got = 0;
        while got == 0 {
            rounds += 1;
            let _ = input.fill(read(&piece), |bytes| {
                got = bytes.len();
                Some(Done { used: bytes.len(), need: 1, next: Next::Read })
            });
            assert!(rounds > 1 || input.rest.len() <= 1 + SHARED_BYTES);
        }
        assert_eq!((got, input.rest.capacity()), (10_000_000, 0));
    }
}
