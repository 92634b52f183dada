use std::io::IoSlice;
use std::task::Waker;

use midge_router::local::Outgoing;

use super::*;
use crate::options::Options;

/// What a peer sends, once.
struct Script(&'static [u8]);

impl Inlet for Script {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        buffer.put_slice(std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }

    fn poll_more(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// A peer that takes everything, but for one write that takes a byte and lets something else happen meanwhile.
struct Paper {
    signal: Signal,
    tracer: Tracer,
    heard: Mutex<Vec<u8>>,
    meanwhile: Mutex<Option<Hook>>,
}

impl Owner for Paper {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: Vec<u8> = bytes.iter().flat_map(|slice| slice.iter().copied()).collect();
        let hook = self.meanwhile.lock().take();
        let take = if hook.is_some() { 1 } else { offered.len() };
        self.heard.lock().extend_from_slice(&offered[..take]);
        if let Some(hook) = hook {
            self.signal.set_blocked();
            hook();
        }
        Ok(take)
    }

    fn wake(&self) {
        self.signal.raise();
    }
}

impl Outlet for Paper {
    fn signal(&self) -> &Signal {
        &self.signal
    }

    fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Desk(Arc<Mutex<Worker>>);

struct Never;

impl Alarm for Never {
    fn set(&mut self, _: Instant, _: Instant, _: &mut Context<'_>) {}
}

impl Host for Desk {
    type Alarm = Never;

    fn worker(&self) -> &Mutex<Worker> {
        &self.0
    }

    fn alarm(&self) -> Never {
        Never
    }

    fn end_turn(&self, worker: &mut Worker, now: Instant) {
        worker.flush(now);
    }
}

/// One thread writes and gets stuck; the connection's own thread has looked between that and the moment at which it
/// was known.
#[test]
fn a_write_that_gets_stuck_on_another_thread_is_gone_on_with() {
    let server = Server::new(Options::default()).unwrap();
    let paper = Arc::new(Paper {
        signal: Signal::default(),
        tracer: Tracer::new(0),
        heard: Mutex::default(),
        meanwhile: Mutex::default(),
    });
    let desk = Desk(server.router().worker());
    let script = Script(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
    let connection = Connection::client(server.clone(), desk, ("paper:1", None), script, paper.clone());
    let connection = Arc::new(Mutex::new(connection));
    let poll = {
        let connection = connection.clone();
        move || {
            let pending = connection.lock().step(&mut Context::from_waker(Waker::noop())).is_pending();
            assert!(pending);
        }
    };
    poll();
    *paper.meanwhile.lock() = Some(Box::new(poll.clone()));
    let inside = server.join(&server.router().global_account());
    inside.publish(&Outgoing { subject: b"a", payload: b"hello", ..Outgoing::default() }, Instant::now());
    assert!(paper.heard.lock().ends_with(b"M"), "one byte was taken");
    poll();
    let heard = String::from_utf8(paper.heard.lock().clone()).unwrap();
    assert!(heard.ends_with("MSG a 1 5\r\nhello\r\n"), "{heard}");
}
