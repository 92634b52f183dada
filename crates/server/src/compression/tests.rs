use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::options::ConnectionType;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn end(mode: Compression, side: Side, io: DuplexStream) -> (Compressed<DuplexStream>, Arc<Carrier>) {
    let carrier = Arc::new(Carrier::new(ConnectionType::Standard));
    (Compressed::new(io, mode, side, carrier.clone()), carrier)
}

fn asks() -> Side {
    Side::Asks(Box::new(PeerInfo { server_id: "X".into(), ..PeerInfo::default() }))
}

fn greeting(mode: &Compression) -> Vec<u8> {
    let info = PeerInfo { server_id: "Y".into(), compression: mode.name().to_owned(), ..PeerInfo::default() };
    [b"INFO ", info.to_json().as_slice(), b" \r\n"].concat()
}

async fn line(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(io.read_u8().await.unwrap());
    }
    line
}

async fn say(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    io.write_all(bytes).await.unwrap();
    io.flush().await.unwrap();
}

/// All modes, by name.
fn all() -> [Compression; 7] {
    use Compression::{Accept, Best, Better, Fast, Off, Uncompressed};
    [Off, Accept, Compression::auto(), Uncompressed, Fast, Better, Best]
}

/// Both ends of a connection between two of this kind, of which each sees one INFO and what follows.
#[test]
fn whatever_is_agreed_on_both_see_the_same_bytes() {
    let text: Vec<u8> = (0..16_000).flat_map(|n: u32| n.to_string().into_bytes()).collect();
    for (ours, theirs) in all().into_iter().flat_map(|ours| all().map(|theirs| (ours.clone(), theirs))) {
        for asked in [Side::IsAskedByRoute, Side::IsAskedByLeafnode] {
            let is_route = matches!(asked, Side::IsAskedByRoute);
            let (left, right) = duplex(1 << 20);
            let ((mut left, by), (mut right, _)) =
                (end(ours.clone(), asks(), left), end(theirs.clone(), asked, right));
            let hello = greeting(&theirs);
            let (asking, asked) = (
                async {
                    if is_route {
                        say(&mut left, b"CONNECT {}\r\n").await;
                    }
                    assert_eq!(line(&mut left).await, hello);
                    if !is_route {
                        say(&mut left, b"CONNECT {}\r\n").await;
                    }
                    say(&mut left, &text).await;
                    let mut heard = vec![0; text.len()];
                    left.read_exact(&mut heard).await.unwrap();
                    assert!(heard == text);
                },
                async {
                    say(&mut right, &hello).await;
                    assert_eq!(line(&mut right).await, b"CONNECT {}\r\n");
                    let mut heard = vec![0; text.len()];
                    right.read_exact(&mut heard).await.unwrap();
                    assert!(heard == text);
                    say(&mut right, &text).await;
                },
            );
            run(async { tokio::join!(asking, asked) });
            assert_eq!(by.compression.get().is_some(), agrees(&ours, &theirs), "{ours:?} and {theirs:?}");
        }
    }
}

#[test]
fn what_is_agreed_on_by_whom() {
    use Compression::{Accept, Best, Better, Fast, Off};
    for (ours, theirs, level) in [
        (Off, Fast, None),
        (Fast, Off, None),
        (Accept, Accept, None),
        (Accept, Better, Some(Better)),
        (Accept, Compression::auto(), Some(Fast)),
        (Best, Accept, Some(Best)),
        (Fast, Best, Some(Fast)),
    ] {
        let got = agrees(&ours, &theirs).then(|| chosen(&ours, &theirs));
        assert_eq!(got, level, "{ours:?} and {theirs:?}");
    }
}

#[test]
fn far_away_is_worth_more_work() {
    let ms = Duration::from_millis;
    let Compression::Auto(usual) = Compression::auto() else { panic!() };
    for (thresholds, rtt, name) in [
        (&usual, 1, "s2_uncompressed"),
        (&usual, 10, "s2_uncompressed"),
        (&usual, 11, "s2_fast"),
        (&usual, 100, "s2_better"),
        (&usual, 101, "s2_best"),
        (&vec![ms(0), ms(50)], 1, "s2_fast"),
        (&vec![ms(0), ms(50)], 51, "s2_best"),
    ] {
        assert_eq!(by_distance(thresholds, ms(rtt)).name(), name, "{rtt} ms");
    }
}

#[test]
fn who_names_no_mode_is_told_so() {
    run(async {
        let (ours, mut theirs) = duplex(1 << 16);
        let (mut ours, _) = end(Compression::Fast, Side::IsAskedByRoute, ours);
        say(&mut theirs, b"CONNECT {}\r\nINFO {\"compression\":\"bogus\"}\r\n").await;
        let error = ours.read_u8().await.unwrap_err().to_string();
        assert_eq!(error, "unsupported route compression mode \"bogus\"");
        assert_eq!(line(&mut theirs).await, b"-ERR 'unsupported route compression mode \"bogus\"'\r\n");
    });
}

#[test]
fn what_is_no_info_is_left_to_the_session() {
    let long = vec![b'x'; 2 * MOST_LINE];
    for said in [&b"-ERR 'no'\r\n"[..], b"PING\r\nPING\r\n", b"INFO {nonsense\r\n", b"no line", &long] {
        for side in [asks(), Side::IsAskedByRoute, Side::IsAskedByLeafnode] {
            let shown = format!("{side:?}");
            run(async {
                let (ours, mut theirs) = duplex(1 << 20);
                let (mut ours, _) = end(Compression::Fast, side, ours);
                say(&mut theirs, said).await;
                drop(theirs);
                let mut heard = Vec::new();
                ours.read_to_end(&mut heard).await.unwrap();
                assert!(heard == said, "{shown}");
            });
        }
    }
}
