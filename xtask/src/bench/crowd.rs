//! Many connections, of which one thread reads whatever comes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use midge_testkit::carrier::Carrier;
use rustix::event::{Timespec, epoll};

/// Connections, each with whatever belongs to it.
#[derive(Debug)]
pub(crate) struct Crowd<T> {
    epoll: OwnedFd,
    pub(crate) members: Vec<(Box<dyn Carrier>, T)>,
}

impl<T> Crowd<T> {
    /// From now on, none of them waits when it is read and there is nothing.
    pub(crate) fn new(members: Vec<(Box<dyn Carrier>, T)>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut crowd = Self { epoll, members: Vec::new() };
        members.into_iter().try_for_each(|(carrier, its)| crowd.join(carrier, its))?;
        Ok(crowd)
    }

    pub(crate) fn join(&mut self, carrier: Box<dyn Carrier>, its: T) -> io::Result<()> {
        carrier.socket().set_nonblocking(true)?;
        let number = epoll::EventData::new_u64(self.members.len() as u64);
        epoll::add(&self.epoll, carrier.socket(), number, epoll::EventFlags::IN)?;
        self.members.push((carrier, its));
        Ok(())
    }

    /// Reads whatever has come, once it has, and shows it with its member. Waits so long at most.
    pub(crate) fn hear(
        &mut self,
        wait: Duration,
        mut each: impl FnMut(&mut dyn Carrier, &mut T, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let mut room = [MaybeUninit::uninit(); 256];
        let (events, _) = epoll::wait(&self.epoll, &mut room, Some(&wait))?;
        for event in events {
            let Some((carrier, its)) = self.members.get_mut(event.data.u64() as usize) else { continue };
            loop {
                match carrier.read(&mut buffer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(len) => each(&mut **carrier, its, buffer.get(..len).unwrap_or_default())?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Writes all of it to somebody who may not take it at once.
pub(crate) fn write_all(to: &mut dyn Carrier, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a NATS client has heard and not understood yet.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    rest: Vec<u8>,
}

impl Ear {
    /// Shows the line of each whole message, and answers PINGs.
    pub(crate) fn hear(
        &mut self,
        to: &mut dyn Carrier,
        heard: &[u8],
        mut each: impl FnMut(&mut dyn Carrier, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.rest.extend_from_slice(heard);
        let mut used = 0;
        while let Some(unused) = self.rest.get(used..)
            && let Some(end) = unused.iter().position(|byte| *byte == b'\n')
        {
            let line = unused.get(..end).unwrap_or_default().trim_ascii_end();
            used += end + 1;
            if line.starts_with(b"MSG ") {
                let size = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                let size = size.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit & 15));
                if unused.len() < end + 1 + size + 2 {
                    used -= end + 1;
                    break;
                }
                each(to, line)?;
                used += size + 2;
            } else if line == b"PING" {
                write_all(to, b"PONG\r\n")?;
            } else if line.starts_with(b"-ERR") {
                return Err(io::Error::other(String::from_utf8_lossy(line).into_owned()));
            }
        }
        self.rest.drain(..used);
        Ok(())
    }
}
