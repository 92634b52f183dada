//! What is waiting to be written to one connection.
//!
//! Appending and writing are separate steps: whoever delivers a message appends, and the connection is written
//! once at the end of the tick, by whichever thread gets there first. At most one thread writes at a time (it
//! takes a [`Flight`] and brings it back), so bytes leave in the order in which they were appended.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Capacities of buffers, from the smallest. One that is full is followed by one of the next capacity instead of
/// growing, which would copy it; so many slices more in a write cost less.
const CLASSES: [usize; 3] = [512, 8 * 1024, 64 * 1024];
/// Most slices in one vectored write.
const SLICES: usize = 64;

/// Who has been slow takes something now and then, if only what a socket buffer holds at a time. Whoever has taken
/// nothing for twice as long as it lately took it is not slow but stuck; within these bounds.
const PATIENCE: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// Bytes that wait together.
#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Empty buffers of one worker, for the connections that it appends to: those of each class. Bounded in bytes.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: [Vec<Vec<u8>>; CLASSES.len()],
    bytes: usize,
}

/// Bytes of empty buffers that one worker keeps.
const POOL_BYTES: usize = 4 * 1024 * 1024;

impl Pool {
    /// A buffer for at least `len` bytes, of this class if that is enough.
    fn take(&mut self, class: u8, len: usize) -> Vec<u8> {
        let class = usize::from(class).min(CLASSES.len() - 1);
        for (buffers, capacity) in self.buffers.iter_mut().zip(CLASSES).skip(class) {
            if capacity >= len {
                let Some(buffer) = buffers.pop() else { return Vec::with_capacity(capacity) };
                self.bytes -= capacity;
                return buffer;
            }
        }
        Vec::with_capacity(len)
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let class = CLASSES.iter().position(|class| *class == capacity);
        if let Some(buffers) = class.and_then(|class| self.buffers.get_mut(class))
            && self.bytes + capacity <= POOL_BYTES
        {
            buffer.clear();
            self.bytes += capacity;
            buffers.push(buffer);
        }
    }

    /// Gives everything back to the allocator.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A connection's waiting output. Lives under the connection's lock.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Full chunks, oldest first.
    older: VecDeque<Chunk>,
    /// The buffer that is appended to.
    tail: Vec<u8>,
    /// Bytes of the oldest chunk that have been written already.
    offset: usize,
    /// Bytes waiting, those in flight included.
    pending: usize,
    /// Whether somebody holds the flight.
    flying: bool,
    /// The class of buffer to begin with: what was enough the last time.
    class: u8,
    /// Whether the connection is on some worker's list of connections to write.
    dirty: bool,
    /// Since when the peer has not taken what it was offered.
    blocked: Option<Box<Blocked>>,
}

#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// Bytes that must leave before the clock starts anew.
    bytes: usize,
    /// When the peer last took anything.
    taken: Instant,
    /// How long it lately went without taking anything: the longest pause, which counts for less with each one
    /// that follows.
    pause: Duration,
}

impl Blocked {
    fn begin(now: Instant, bytes: usize, pause: Duration) -> Self {
        Self { since: now, bytes, taken: now, pause }
    }

    fn took(&mut self, written: usize, now: Instant) {
        self.bytes = self.bytes.saturating_sub(written);
        self.pause = now.saturating_duration_since(self.taken).max(self.pause * 3 / 4);
        self.taken = now;
    }
}

/// Output that one thread is writing.
#[derive(Debug)]
pub(crate) struct Flight {
    older: VecDeque<Chunk>,
    last: Vec<u8>,
    offset: usize,
}

/// How a flight ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    /// Everything was written, and more came meanwhile: write again.
    Again,
    /// Everything was written.
    Done,
    /// The peer takes no more for now.
    Blocked,
}

impl Outbox {
    /// Bytes that wait to be written.
    pub(crate) const fn pending(&self) -> usize {
        self.pending
    }

    /// Since when a write has been held up by the peer.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|blocked| blocked.since)
    }

    /// Whether the peer has taken nothing for so long that to wait for it is of no use.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        let [least, most] = PATIENCE;
        self.blocked.as_ref().is_some_and(|blocked| {
            now.saturating_duration_since(blocked.taken) >= (blocked.pause * 2).clamp(least, most)
        })
    }

    /// Marks the connection as one to write; whether it was not marked before.
    pub(crate) const fn mark_dirty(&mut self) -> bool {
        let fresh = !self.dirty;
        self.dirty = true;
        fresh
    }

    /// Takes the mark away again.
    pub(crate) const fn clear_dirty(&mut self) {
        self.dirty = false;
    }

    /// Lets `fill` append at most `len` bytes.
    #[inline]
    pub(crate) fn append(&mut self, len: usize, pool: &mut Pool, fill: impl FnOnce(&mut Vec<u8>)) {
        if self.tail.capacity() - self.tail.len() < len {
            self.make_room(len, pool);
        }
        let before = self.tail.len();
        fill(&mut self.tail);
        self.pending += self.tail.len() - before;
    }

    /// Follows the tail by another one that has room for `len` bytes.
    #[inline(never)]
    fn make_room(&mut self, len: usize, pool: &mut Pool) {
        if self.tail.capacity() > 0 {
            self.class = (self.class + 1).min(CLASSES.len() as u8 - 1);
        }
        let full = std::mem::replace(&mut self.tail, pool.take(self.class, len));
        if full.is_empty() {
            pool.give(full);
        } else {
            self.older.push_back(Chunk::Own(full));
        }
    }

    /// Appends bytes that other connections wait to write too.
    pub(crate) fn share(&mut self, bytes: Bytes, pool: &mut Pool) {
        if !self.tail.is_empty() {
            let full = std::mem::replace(&mut self.tail, pool.take(self.class, 0));
            self.older.push_back(Chunk::Own(full));
        }
        self.pending += bytes.len();
        self.older.push_back(Chunk::Shared(bytes));
    }

    /// Takes everything that waits, to write it; `None` when there is nothing or somebody else is writing.
    pub(crate) fn take_off(&mut self) -> Option<Flight> {
        self.dirty = false;
        if self.flying || self.pending == 0 {
            return None;
        }
        self.flying = true;
        // What waits now will be about what waits the next time.
        self.class = CLASSES.iter().take_while(|class| **class < self.pending).count() as u8;
        Some(Flight {
            older: std::mem::take(&mut self.older),
            last: std::mem::take(&mut self.tail),
            offset: std::mem::take(&mut self.offset),
        })
    }

    /// Brings a flight back, of which `written` bytes have left.
    pub(crate) fn land(
        &mut self,
        mut flight: Flight,
        written: usize,
        now: Instant,
        pool: &mut Pool,
    ) -> Landing {
        self.flying = false;
        // Saturating: the connection may have been closed, and its output discarded, during the flight.
        self.pending = self.pending.saturating_sub(written);
        if flight.is_empty() {
            self.blocked = None;
            pool.give(flight.last);
            return if self.pending > 0 { Landing::Again } else { Landing::Done };
        }
        match &mut self.blocked {
            Some(blocked) if written > 0 => {
                blocked.took(written, now);
                if blocked.bytes == 0 {
                    **blocked = Blocked::begin(now, self.pending, blocked.pause);
                }
            }
            Some(_) => {}
            none => *none = Some(Box::new(Blocked::begin(now, self.pending, Duration::ZERO))),
        }
        if !flight.last.is_empty() {
            flight.older.push_back(Chunk::Own(flight.last));
        }
        flight.older.append(&mut self.older);
        self.older = flight.older;
        self.offset = flight.offset;
        Landing::Blocked
    }

    /// Drops everything that waits: the peer will not get it.
    pub(crate) fn discard(&mut self) {
        self.older = VecDeque::new();
        self.tail = Vec::new();
        self.offset = 0;
        self.pending = 0;
        self.blocked = None;
    }
}

impl Flight {
    fn is_empty(&self) -> bool {
        self.older.is_empty() && self.last.is_empty()
    }

    /// Offers the bytes to `write` until all are gone or it takes no more. Gives back how many left.
    pub(crate) fn write(
        &mut self,
        pool: &mut Pool,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> (usize, io::Result<()>) {
        let mut total = 0;
        while !self.is_empty() {
            let (offered, taken) = self.offer(&mut write);
            match taken {
                Ok(taken) => {
                    total += taken;
                    self.advance(taken, pool);
                    if taken < offered {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (total, Err(error)),
            }
        }
        (total, Ok(()))
    }

    fn offer(
        &self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> (usize, io::Result<usize>) {
        if self.older.is_empty() {
            let rest = self.last.get(self.offset..).unwrap_or_default();
            return (rest.len(), write(&[IoSlice::new(rest)]));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let chunks = self.older.iter().map(Chunk::bytes).chain(std::iter::once(self.last.as_slice()));
        let (mut used, mut offered) = (0, 0);
        for (slot, bytes) in slices.iter_mut().zip(chunks) {
            let bytes = if used == 0 { bytes.get(self.offset..).unwrap_or_default() } else { bytes };
            offered += bytes.len();
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        (offered, write(slices.get(..used).unwrap_or_default()))
    }

    fn advance(&mut self, taken: usize, pool: &mut Pool) {
        self.offset += taken;
        while let Some(first) = self.older.front() {
            let len = first.bytes().len();
            if self.offset < len {
                return;
            }
            self.offset -= len;
            if let Some(Chunk::Own(buffer)) = self.older.pop_front() {
                pool.give(buffer);
            }
        }
        if self.offset >= self.last.len() {
            self.last.clear();
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(outbox: &mut Outbox, pool: &mut Pool, bytes: &[u8]) {
        outbox.append(bytes.len(), pool, |room| room.extend_from_slice(bytes));
    }

    /// Flies once, taking at most `limits` bytes per write.
    fn fly(
        outbox: &mut Outbox,
        pool: &mut Pool,
        limits: &mut Vec<usize>,
        sent: &mut Vec<u8>,
    ) -> Option<Landing> {
        let mut flight = outbox.take_off()?;
        let (written, result) = flight.write(pool, |slices| {
            let Some(limit) = limits.pop() else { return Err(io::ErrorKind::WouldBlock.into()) };
            let before = sent.len();
            for slice in slices {
                let take = slice.len().min(limit - (sent.len() - before));
                sent.extend_from_slice(&slice[..take]);
            }
            Ok(sent.len() - before)
        });
        result.unwrap();
        Some(outbox.land(flight, written, Instant::now_for_tests(), pool))
    }

    trait TestClock {
        fn now_for_tests() -> Instant;
    }
    impl TestClock for Instant {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant, whichever")]
        fn now_for_tests() -> Instant {
            Self::now()
        }
    }

    #[test]
    fn bytes_leave_in_order_however_they_are_taken() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
        let mut want = Vec::new();
        for n in 0..40_u8 {
            let piece = vec![n; 5000];
            want.extend_from_slice(&piece);
            if n % 7 == 0 {
                outbox.share(Bytes::from(piece), &mut pool);
            } else {
                put(&mut outbox, &mut pool, &piece);
            }
        }
        let mut sent = Vec::new();
        for limit in [1, 7, 70_000, 3, 64_000] {
            assert_eq!(fly(&mut outbox, &mut pool, &mut vec![limit], &mut sent), Some(Landing::Blocked));
            assert!(outbox.blocked_since().is_some());
        }
        assert_eq!(fly(&mut outbox, &mut pool, &mut vec![usize::MAX / 2; 9], &mut sent), Some(Landing::Done));
        assert_eq!(sent, want);
        assert_eq!((outbox.pending(), outbox.blocked_since()), (0, None));
        assert_eq!(fly(&mut outbox, &mut pool, &mut vec![1], &mut sent), None);
    }

    #[test]
    fn one_flight_at_a_time_and_what_comes_meanwhile_goes_next() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
        put(&mut outbox, &mut pool, b"first");
        let mut flight = outbox.take_off().unwrap();
        put(&mut outbox, &mut pool, b"second");
        assert!(outbox.take_off().is_none());
        let (written, _) = flight.write(&mut pool, |slices| Ok(slices[0].len()));
        assert_eq!(outbox.land(flight, written, Instant::now_for_tests(), &mut pool), Landing::Again);
        assert_eq!(outbox.pending(), 6);
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = Pool::default();
        let [small, _, large] = CLASSES;
        for _ in 0..10_000 {
            pool.give(Vec::with_capacity(small));
            pool.give(Vec::with_capacity(large));
        }
        pool.give(Vec::with_capacity(10 * large));
        let held: usize = pool.buffers.iter().flatten().map(Vec::capacity).sum();
        assert!(held <= POOL_BYTES && held == pool.bytes);
        assert_eq!(pool.take(0, 10).capacity(), small);
        assert_eq!(pool.take(0, small + 1).capacity(), CLASSES[1]);
        assert_eq!(pool.take(9, 10).capacity(), large);
    }
}
