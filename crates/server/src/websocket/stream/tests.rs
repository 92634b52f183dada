use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::options::ConnectionType;

const PLAIN: Manner =
    Manner { compresses: false, masks: false, masked: true, most_frame: None, fragments: true };
const PACKED: Manner = Manner { compresses: true, ..PLAIN };

fn pair(manner: Manner) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    (WebSocket::new(ours, manner, Arc::new(Carrier::new(ConnectionType::WebSocket))), theirs)
}

/// A client's frame: masked.
fn frame(code: OpCode, bytes: &[u8], fin: bool, rsv1: bool) -> Vec<u8> {
    let mut header = Header::new(code);
    header.set_fin(fin).set_rsv1(rsv1).set_payload_len(bytes.len()).set_masked(true).set_mask(0x1234_5678);
    let mut codec = Codec::new();
    let mut out = codec.encode_header(&header).to_vec();
    let mut body = bytes.to_vec();
    Codec::apply_mask(&header, &mut body);
    out.extend_from_slice(&body);
    out
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What a server reads of these bytes, in reads of so many bytes.
fn read(manner: Manner, bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    run(async {
        let (mut socket, mut client) = pair(manner);
        client.write_all(bytes).await?;
        client.shutdown().await?;
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            match socket.read(&mut buffer).await? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    })
}

#[test]
fn frames_are_one_stream_of_bytes() {
    let mut bytes = frame(OpCode::Binary, b"PUB a", false, false);
    bytes.extend(frame(OpCode::Ping, b"beat", true, false));
    bytes.extend(frame(OpCode::Continue, b" 2\r\n", true, false));
    bytes.extend(frame(OpCode::Text, b"", true, false));
    bytes.extend(frame(OpCode::Text, b"hi\r\n", true, false));
    for piece in [1, 3, 7, 4096] {
        assert_eq!(read(PLAIN, &bytes, piece).unwrap(), b"PUB a 2\r\nhi\r\n");
    }
}

#[test]
fn compressed_messages_are_unpacked_as_they_come() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
    let packed = deflated(&text).unwrap();
    let (front, back) = packed.split_at(packed.len() / 3);
    let mut bytes = frame(OpCode::Binary, front, false, true);
    bytes.extend(frame(OpCode::Continue, back, true, false));
    bytes.extend(frame(OpCode::Binary, b"plain", true, false));
    let want = [text.as_slice(), b"plain"].concat();
    for piece in [100, 5000, 65_536] {
        assert!(read(PACKED, &bytes, piece).unwrap() == want, "in reads of {piece} bytes");
    }
}

#[test]
fn a_bomb_costs_no_more_than_the_reader_takes() {
    let packed = deflated(&vec![0; 100_000_000]).unwrap();
    assert!(packed.len() < 1_000_000);
    run(async {
        let (mut socket, mut client) = pair(PACKED);
        client
            .write_all(&frame(OpCode::Binary, &packed, true, true)[..500_000.min(packed.len())])
            .await
            .unwrap();
        let mut buffer = vec![1; 1000];
        for _ in 0..10 {
            assert_eq!(socket.read(&mut buffer).await.unwrap(), 1000);
        }
        assert!(socket.raw.len() <= CHUNK);
    });
}

#[test]
fn whoever_breaks_the_rules_is_told_so() {
    let unmasked = [0x82, 1, b'x'];
    for (bytes, why) in [
        (unmasked.to_vec(), "mask bit missing"),
        (frame(OpCode::Continue, b"x", true, false), "invalid continuation frame"),
        (frame(OpCode::Binary, b"x", true, true), "invalid reserved bit: 1"),
        (vec![0x83, 0x80, 0, 0, 0, 0], "reserved opcode"),
        (vec![0x09, 0x80, 0, 0, 0, 0], "fragmented control frame"),
        (vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0], "invalid control frame length"),
        (
            [frame(OpCode::Text, b"x", false, false), frame(OpCode::Text, b"x", true, false)].concat(),
            "new message started",
        ),
        (frame(OpCode::Close, b"x", true, false), "close frame payload cannot be 1 byte"),
        (frame(OpCode::Close, &[3, 0xec], true, false), "invalid close status code 1004"),
    ] {
        run(async {
            let (mut socket, mut client) = pair(PLAIN);
            client.write_all(&bytes).await.unwrap();
            let mut buffer = Vec::new();
            let error = socket.read_to_end(&mut buffer).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}, not {why}");
            let _ = socket.shutdown().await;
            drop(socket);
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!((heard[0], &heard[2..4]), (0x88, &[3, 0xea][..]), "a close frame with 1002");
        });
    }
    assert!(
        read(PACKED, &frame(OpCode::Binary, b"\xff\xff\xff", true, true), 100).is_err(),
        "what is no deflate"
    );
}

#[test]
fn pings_and_goodbyes_are_answered() {
    run(async {
        let (mut socket, mut client) = pair(PLAIN);
        client.write_all(&frame(OpCode::Ping, b"beat", true, false)).await.unwrap();
        client.write_all(&frame(OpCode::Close, &[3, 0xe8, b'b'], true, false)).await.unwrap();
        let mut nothing = [0; 10];
        assert_eq!(socket.read(&mut nothing).await.unwrap(), 0, "it has ended");
        socket.shutdown().await.unwrap();
        drop(socket);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [&[0x8a, 4][..], b"beat", &[0x88, 3, 3, 0xe8, b'b']].concat());
    });
}

#[test]
fn what_is_written_is_framed() {
    let written = |manner: Manner, bytes: &[u8]| {
        run(async {
            let (mut socket, mut client) = pair(manner);
            socket.write_all(bytes).await.unwrap();
            socket.flush().await.unwrap();
            let _ = socket.carrier.ended.set(CloseReason::ServerShutdown);
            socket.shutdown().await.unwrap();
            drop(socket);
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            heard
        })
    };
    let bye = [&[0x88, 17, 3, 0xe9][..], b"Server Shutdown"].concat();
    assert_eq!(written(PLAIN, b"PONG\r\n"), [&[0x82, 6][..], b"PONG\r\n", &bye].concat());
    let browser = written(Manner { most_frame: Some(4), ..PLAIN }, b"PONG\r\n");
    assert_eq!(browser, [&[0x82, 4][..], b"PONG", &[0x82, 2], b"\r\n", &bye].concat());
    assert_eq!(written(PACKED, b"PONG\r\n")[0], 0x82, "short messages are not worth it");
    let packed = written(PACKED, &[b'x'; 5000]);
    assert!(packed[0] == 0xc2 && packed.len() < 200);
    let cut = written(Manner { most_frame: Some(8), ..PACKED }, &[b'x'; 5000]);
    assert_eq!((cut[0], cut[10]), (0x42, if cut[11] == 8 { 0x00 } else { 0x80 }));
}

#[test]
fn who_asked_masks_and_who_was_asked_does_not() {
    run(async {
        let (ours, theirs) = duplex(1 << 20);
        let asking = Manner { masks: true, masked: false, ..PLAIN };
        let carrier = || Arc::new(Carrier::new(ConnectionType::WebSocket));
        let mut asking = WebSocket::new(ours, asking, carrier());
        let mut asked = WebSocket::new(theirs, PLAIN, carrier());
        for size in [1, 125, 126, 70_000] {
            let sent: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut heard = vec![0; size];
            asking.write_all(&sent).await.unwrap();
            asking.flush().await.unwrap();
            asked.read_exact(&mut heard).await.unwrap();
            assert!(heard == sent, "{size} bytes");
            asked.write_all(&sent).await.unwrap();
            asked.flush().await.unwrap();
            asking.read_exact(&mut heard).await.unwrap();
            assert!(heard == sent, "{size} bytes back");
        }
    });
}

#[test]
fn what_is_there_is_handed_on_before_the_next_frame_is() {
    run(async {
        let (mut socket, mut client) = pair(PLAIN);
        let (first, second) =
            (frame(OpCode::Binary, b"first", true, false), frame(OpCode::Binary, b"second", true, false));
        let (begin, rest) = second.split_at(1);
        client.write_all(&[first.as_slice(), begin].concat()).await.unwrap();
        let mut heard = [0; 100];
        assert_eq!(socket.read(&mut heard).await.unwrap(), 5);
        client.write_all(rest).await.unwrap();
        assert_eq!(socket.read(&mut heard).await.unwrap(), 6);
    });
}

#[test]
fn floods_of_control_frames_are_bounded_and_let_others_have_a_turn() {
    let mut socket =
        WebSocket::new(Narrow::default(), PLAIN, Arc::new(Carrier::new(ConnectionType::WebSocket)));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut turns = 0;
    while socket.io.read < 10 << 20 {
        let mut buffer = [0; 100];
        let mut buffer = ReadBuf::new(&mut buffer);
        let before = socket.io.read;
        assert!(Pin::new(&mut socket).poll_read(&mut cx, &mut buffer).is_pending());
        assert!(socket.io.read - before <= (MOST_CHUNKS + 1) * CHUNK, "one turn");
        assert!(socket.out.len() <= 4 * MOST_WAITING, "{} bytes of answers are kept", socket.out.len());
        // A peer that floods takes a little of what it is answered, and never all.
        socket.io.room = 3000;
        turns += 1;
    }
    assert!(turns > 10);
}

/// A peer that sends pings for ever and takes little.
#[derive(Default)]
struct Narrow {
    read: usize,
    room: usize,
}

impl AsyncRead for Narrow {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ping = frame(OpCode::Ping, b"", true, false);
        while buffer.remaining() >= ping.len() {
            buffer.put_slice(&ping);
        }
        this.read += buffer.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let taken = bytes.len().min(this.room);
        this.room -= taken;
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
