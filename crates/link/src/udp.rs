//! Datagrams by UDP, as many at once as the system takes.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use midge_identity::PeerId;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::lookup_host;

use crate::path::{Boxed, LocateError, Outgoing, PacketPath, PathLimits, Received, Sent};

/// Bytes that the system is asked to hold in each direction. It gives as much as it may, and without much of it loses
/// hundreds of packets where a fast link begins.
const BUFFER: usize = 4 * 1024 * 1024;
/// Most buffers that are filled at once.
const BATCH: usize = 32;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpPath {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl UdpPath {
    /// Listens on `address`; port 0 is any. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn bind(address: SocketAddr) -> io::Result<Arc<Self>> {
        Self::of(open(address)?)
    }

    /// A socket to dial by, as [`open_any`] opens it. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn any() -> io::Result<Arc<Self>> {
        Self::of(open_any()?)
    }

    /// The socket, which somebody else has opened. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system does not let it be used without waiting.
    pub fn of(socket: UdpSocket) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Arc::new(Self { socket: tokio::net::UdpSocket::from_std(socket)?, state, local }))
    }
}

/// A socket on `address` with the buffers that links want.
///
/// # Errors
/// The system refuses it.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Less is no error: it is then slower.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket to dial by, with the buffers that links want: one for IPv6, which reaches both, where there is any.
///
/// # Errors
/// The system refuses it.
pub fn open_any() -> io::Result<UdpSocket> {
    let any = |ip: IpAddr| open(SocketAddr::new(ip, 0));
    any(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))
}

impl PacketPath for UdpPath {
    fn scheme(&self) -> &'static str {
        "udp"
    }

    fn local_address(&self) -> SocketAddr {
        self.local
    }

    fn limits(&self) -> PathLimits {
        PathLimits {
            max_datagram: 1452,
            max_sent: self.state.max_gso_segments(),
            max_received: self.state.gro_segments(),
            reliable: false,
            relayed: false,
            window: None,
        }
    }

    fn try_send(&self, datagrams: &Outgoing<'_>) -> Sent {
        let transmit = Transmit {
            destination: datagrams.to,
            ecn: EcnCodepoint::from_bits(datagrams.ecn),
            contents: datagrams.bytes,
            segment_size: datagrams.size,
            src_ip: datagrams.from,
        };
        let send = || self.state.send((&self.socket).into(), &transmit);
        match self.socket.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            // A loss. To say more of it would end the link, or all of them.
            Ok(()) | Err(_) => Sent::Gone,
        }
    }

    fn room(self: Arc<Self>) -> Boxed<()> {
        Box::pin(async move {
            let _ = self.socket.writable().await;
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut [Received],
    ) -> Poll<usize> {
        let mut metas = [RecvMeta::default(); BATCH];
        let most = buffers.len().min(received.len()).min(BATCH);
        loop {
            if ready!(self.socket.poll_recv_ready(cx)).is_err() {
                // The event queue has gone, and with it the runtime.
                return Poll::Pending;
            }
            let (Some(buffers), Some(metas)) = (buffers.get_mut(..most), metas.get_mut(..most)) else {
                return Poll::Pending;
            };
            let receive = || self.state.recv((&self.socket).into(), buffers, metas);
            match self.socket.try_io(Interest::READABLE, receive) {
                Ok(count) => {
                    for (slot, meta) in received.iter_mut().zip(metas).take(count) {
                        let ecn = meta.ecn.map_or(0, |ecn| ecn as u8);
                        *slot = Received {
                            from: meta.addr,
                            len: meta.len,
                            size: meta.stride,
                            ecn,
                            to: meta.dst_ip,
                        };
                    }
                    return Poll::Ready(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What the system says of datagrams that it could not deliver. Others have their turn in between.
                Err(_) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn locate(self: Arc<Self>, _: PeerId, text: String) -> Boxed<Result<Vec<SocketAddr>, LocateError>> {
        let is_v6 = self.local.is_ipv6();
        Box::pin(async move {
            let found = tokio::spawn(async move { lookup_host(text).await.map(Vec::from_iter) }).await;
            let found = found.map_err(|error| LocateError(error.to_string()))?;
            let found = found.map_err(|error| LocateError(error.to_string()))?;
            // A socket for IPv4 reaches nobody else; one for IPv6 reaches both.
            let fits = found.into_iter().filter(|address| is_v6 || address.is_ipv4());
            let all: Vec<SocketAddr> =
                fits.map(|address| if is_v6 { mapped(address) } else { address }).collect();
            if all.is_empty() {
                Err(LocateError("it has no address of this kind".to_owned()))
            } else {
                Ok(all)
            }
        })
    }

    fn show(&self, address: SocketAddr) -> String {
        SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
    }
}

/// The address as a socket for IPv6 takes it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}
