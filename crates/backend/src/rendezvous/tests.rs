use super::*;

const NOW: Duration = Duration::from_millis(1_700_000_000_000);

fn dialer() -> KeyPair {
    KeyPair::from_seed(&std::array::from_fn(|n| n as u8)).unwrap()
}

fn listener() -> KeyPair {
    KeyPair::from_seed(&[0xaa; 32]).unwrap()
}

fn chance(nonce: u8, secret: u8) -> RandomBytes {
    let mut bytes = Zeroizing::new([nonce; 64]);
    bytes[32..].fill(secret);
    bytes
}

fn prefix() -> Prefix {
    "midge".parse().unwrap()
}

struct Side {
    key: KeyPair,
    prefix: Prefix,
    now: Duration,
}

impl Side {
    fn new(key: KeyPair) -> Self {
        Self { key, prefix: prefix(), now: NOW }
    }

    fn terms(&self) -> Terms<'_> {
        Terms { key: &self.key, prefix: &self.prefix, now: self.now, max_datagram: 16_000 }
    }

    fn ask(&self, nonce: u8) -> DialRequest {
        DialRequest::new(&self.terms(), listener().peer_id(), &chance(nonce, 0x11))
    }
}

fn look(door: &mut DialGuard, question: &[u8]) -> Result<IncomingDial, RendezvousError> {
    door.look(&Side::new(listener()).terms(), question, |_| true)
}

/// A question that says something else, signed by the dialer.
fn altered(change: impl FnOnce(&mut Dial)) -> Vec<u8> {
    let (_, mut dial): (Signed, Dial) = open(&Side::new(dialer()).ask(0x33).bytes).unwrap();
    change(&mut dial);
    seal(&dialer(), DIAL, &dial.encode_to_vec())
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// Computed by a program in Python, with the cryptography library and protobuf written by hand; with the labels of the study
/// that this format follows, it computes that one's numbers.
#[test]
fn messages_and_tokens_are_what_others_compute() {
    let (asks, answers) = (Side::new(dialer()), Side::new(listener()));
    let question = asks.ask(0x33);
    let (signed, _): (Signed, Dial) = open(&question.bytes).unwrap();
    assert_eq!(
        signed.body,
        hex(concat!(
            "0801122600240801122003a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b81a26002408011220",
            "e734ea6c2b6257de72355e472aa05a4c487e6b463c029ed306df2f01b5636b5822203333333333333333333333333333333",
            "3333333333333333333333333333333332a207b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f",
            "133080d095ffbc3138807d42056d69646765"
        ))
    );
    assert_eq!(
        signed.signature,
        hex(concat!(
            "0eefa736a62a0bc1ebd4f51817be22da4232e05386b624266001afa7bff61fa508f34bb25ffd8bca2970319ea78c76490a5b",
            "1789c0e9a9e29175c32dc7060207"
        ))
    );
    let asked = look(&mut DialGuard::default(), &question.bytes).unwrap();
    assert_eq!(asked.dialer, dialer().peer_id());
    let (answer, theirs) = asked.accept(&answers.terms(), &chance(0x44, 0x22)).unwrap();
    let (signed, _): (Signed, Accept) = open(&answer).unwrap();
    assert_eq!(
        signed.body,
        hex(concat!(
            "0a20ebd2f3dcf69c3f707279400e7968ed1164a78a9357b790d969431b7494b45f6612204444444444444444444444444444",
            "4444444444444444444444444444444444441a200faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf267857",
            "0f2020807d28904e"
        ))
    );
    assert_eq!(
        signed.signature,
        hex(concat!(
            "201d5daed5b6e74b1d30aa3f7aaf8ceb6fe71af0b8bc025c698c6c11d73ef82d2100d903e4b4895ca354fc4162ea8ce6d9a2",
            "9ec70f94a5ef097daa9b7aebf807"
        ))
    );
    let ours = question.answered(&answer).unwrap();
    assert_eq!(ours, Session { peer: listener().peer_id(), ..theirs.clone() });
    assert_eq!(theirs.peer, dialer().peer_id());
    let tokens = [ours.to_listener, ours.to_dialer, ours.id].map(|token| token.to_string());
    assert_eq!(tokens, ["2onoirqxtwo7w5f5tcssenak", "eis4swx7hpv22patt3gciedo", "zm2iu5q6zryffyolkinxjhmt"]);
    assert_eq!(Token::parse(&tokens[0]), Some(ours.to_listener));
    for bad in [
        "",
        "2ONOIRQXTWO7W5F5TCSSENAK",
        "2onoirqxtwo7w5f5tcssena",
        "2onoirqxtwo7w5f5tcssena1",
        "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
    ] {
        assert_eq!(Token::parse(bad), None, "{bad}");
    }
}

#[test]
fn every_check_of_a_question_refuses() {
    let refused = |question: &[u8]| look(&mut DialGuard::default(), question).unwrap_err();
    assert_eq!(refused(&altered(|dial| dial.version = 2)), RendezvousError::Version(2));
    assert_eq!(
        refused(&altered(|dial| dial.target = dialer().peer_id().to_bytes().to_vec())),
        RendezvousError::Target
    );
    let prefixed = refused(&altered(|dial| dial.prefix = "other\n".to_owned()));
    assert_eq!(prefixed.to_string(), "the other side's prefix is 'other\\n', this one's 'midge'");
    let minute = 60_000;
    for (off, fits) in
        [(-minute, true), (minute, true), (-minute - 1, false), (minute + 1, false), (i64::MAX / 2, false)]
    {
        let question = altered(|dial| dial.unix_ms = dial.unix_ms.wrapping_add_signed(off));
        let looked = look(&mut DialGuard::default(), &question);
        assert_eq!(looked.is_ok(), fits, "{off}");
        assert!(fits || matches!(looked, Err(RendezvousError::Clock(_))));
    }
    for malformed in [
        altered(|dial| dial.dialer = listener().peer_id().to_bytes().to_vec()),
        altered(|dial| dial.dialer.push(0)),
        altered(|dial| dial.dialer.clear()),
        altered(|dial| dial.nonce.push(0)),
        altered(|dial| dial.nonce.truncate(31)),
        altered(|dial| dial.ephemeral.truncate(31)),
        altered(|dial| dial.max_datagram = 1199),
        altered(|dial| dial.max_datagram = 65_536),
        vec![0; MOST + 1],
        b"junk".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(refused(&malformed), RendezvousError::Malformed);
    }
    let question = Side::new(dialer()).ask(0x33).bytes;
    let refuses = DialGuard::default().look(&Side::new(listener()).terms(), &question, |_| false);
    assert_eq!(refuses.unwrap_err(), RendezvousError::NotAllowed);
    // Signed by another, or for another purpose.
    let (signed, _): (Signed, Dial) = open(&question).unwrap();
    for forged in [
        seal(&listener(), DIAL, &signed.body),
        seal(&dialer(), ACCEPT, &signed.body),
        seal(&dialer(), b"", &signed.body),
    ] {
        assert_eq!(refused(&forged), RendezvousError::Signature);
    }
    let short = Signed { signature: vec![0; 63], ..signed }.encode_to_vec();
    assert_eq!(refused(&short), RendezvousError::Malformed);
}

/// No byte of a question can be another.
#[test]
fn no_flipped_bit_is_taken() {
    let question = Side::new(dialer()).ask(0x33).bytes;
    for at in 0..question.len() {
        for bit in 0..8 {
            let mut flipped = question.clone();
            flipped[at] ^= 1 << bit;
            assert!(look(&mut DialGuard::default(), &flipped).is_err(), "{at} {bit}");
        }
    }
}

#[test]
fn keys_of_small_order_make_no_secret() {
    let one = {
        let mut one = [0; 32];
        one[0] = 1;
        one.to_vec()
    };
    for small in [vec![0; 32], one] {
        let asked = look(&mut DialGuard::default(), &altered(|dial| dial.ephemeral = small.clone())).unwrap();
        let answered = asked.accept(&Side::new(listener()).terms(), &chance(0x44, 0x22));
        assert_eq!(answered.unwrap_err(), RendezvousError::Key);
        // Nor of the listener.
        let question = Side::new(dialer()).ask(0x33);
        let honest = look(&mut DialGuard::default(), &question.bytes).unwrap();
        let (answer, _) = honest.accept(&Side::new(listener()).terms(), &chance(0x44, 0x22)).unwrap();
        let (_, mut accept): (Signed, Accept) = open(&answer).unwrap();
        accept.ephemeral = small;
        let answer = seal(&listener(), ACCEPT, &accept.encode_to_vec());
        assert_eq!(question.answered(&answer), Err(RendezvousError::Key));
    }
}

#[test]
fn answers_are_the_targets_to_this_question() {
    let (first, second) = (Side::new(dialer()).ask(1), Side::new(dialer()).ask(2));
    let mut door = DialGuard::default();
    let asked = look(&mut door, &first.bytes).unwrap();
    let answers = Side::new(listener());
    let (answer, _) = asked.accept(&answers.terms(), &chance(0x44, 0x22)).unwrap();
    assert!(first.answered(&answer).is_ok());
    assert_eq!(second.answered(&answer), Err(RendezvousError::Answer));
    let (signed, _): (Signed, Accept) = open(&answer).unwrap();
    assert_eq!(first.answered(&seal(&dialer(), ACCEPT, &signed.body)), Err(RendezvousError::Signature));
    assert_eq!(first.answered(&seal(&listener(), DIAL, &signed.body)), Err(RendezvousError::Signature));
    assert_eq!(first.answered(b"junk"), Err(RendezvousError::Malformed));
    let busy = asked.reject(&answers.terms(), &RendezvousError::Busy(Duration::from_millis(700)));
    let rejected = RendezvousError::Rejected { code: 429, retry_after: Duration::from_millis(700) };
    assert_eq!(first.answered(&busy), Err(rejected));
}

#[test]
fn a_question_is_answered_once() {
    let mut door = DialGuard::default();
    let question = Side::new(dialer()).ask(0x33).bytes;
    assert!(look(&mut door, &question).is_ok());
    assert_eq!(look(&mut door, &question).unwrap_err(), RendezvousError::Replayed);
    // Also just before it is too old, whatever the stretches are.
    for start in 0..120 {
        let mut door = DialGuard::default();
        let at = |seconds| Side { now: NOW + Duration::from_secs(seconds), ..Side::new(listener()) };
        let asks = Side { now: NOW + Duration::from_secs(start), ..Side::new(dialer()) };
        let question = asks.ask(0x33).bytes;
        let first = at((start + 60).saturating_sub(119));
        if door.look(&first.terms(), &question, |_| true).is_ok() {
            let again = door.look(&at(start + 60).terms(), &question, |_| true);
            assert_eq!(again.unwrap_err(), RendezvousError::Replayed, "{start}");
        }
    }
}

#[test]
fn nobody_asks_without_end() {
    let mut door = DialGuard::default();
    let ask = |door: &mut DialGuard, nonce: u16, now| {
        let mut bytes = chance(0, 0x11);
        bytes[..2].copy_from_slice(&nonce.to_be_bytes());
        let asks = Side { now, ..Side::new(dialer()) };
        let question = DialRequest::new(&asks.terms(), listener().peer_id(), &bytes).bytes;
        door.look(&Side { now, ..Side::new(listener()) }.terms(), &question, |_| true).map(drop)
    };
    for nonce in 0..20 {
        assert_eq!(ask(&mut door, nonce, NOW), Ok(()));
    }
    let Err(RendezvousError::Busy(wait)) = ask(&mut door, 20, NOW) else { panic!("not busy") };
    assert_eq!(wait, Duration::from_millis(500));
    assert_eq!(ask(&mut door, 21, NOW + wait), Ok(()));
    // Another peer's questions are not held up by it.
    let other = KeyPair::from_seed(&[7; 32]).unwrap();
    assert!(look(&mut door, &Side::new(other).ask(0x33).bytes).is_ok());
    // Those who forge signatures are not checked without end, either, and hold up only him whose name they use.
    let (mut door, mut checked) = (DialGuard::default(), 0);
    let (signed, _): (Signed, Dial) = open(&Side::new(dialer()).ask(0x33).bytes).unwrap();
    let forged = Signed { signature: vec![1; 64], ..signed }.encode_to_vec();
    while look(&mut door, &forged).unwrap_err() == RendezvousError::Signature {
        checked += 1;
    }
    assert_eq!(checked, 100);
    let other = KeyPair::from_seed(&[7; 32]).unwrap();
    assert!(look(&mut door, &Side::new(other).ask(0x33).bytes).is_ok());
}

/// Nothing is forgotten that could come again, and nothing grows without end.
#[test]
fn a_full_memory_refuses() {
    let question = Side::new(dialer()).ask(0x33).bytes;
    let mut guard = DialGuard::default();
    // Of this stretch of time.
    guard.turn(NOW);
    for number in 0..MOST_NONCES as u64 {
        let mut nonce = [0; PART];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        guard.newer.insert(nonce);
    }
    assert_eq!(look(&mut guard, &question).unwrap_err(), RendezvousError::Busy(CLOCK));
    let mut guard = DialGuard::default();
    let spent = Bucket { left: 0.0, at: NOW };
    for number in 0..MOST_PEERS as u64 {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        // Not a key that anybody has, but a peer's id.
        let Ok(peer) = PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32][..], &seed].concat()) else { continue };
        guard.peers.insert(peer, Budget { checks: spent, asks: spent });
    }
    let mut number = 0_u64;
    while guard.peers.len() < MOST_PEERS {
        number += 1;
        let mut seed = [2; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let peer = KeyPair::from_seed(&seed).unwrap().peer_id();
        guard.peers.insert(peer, Budget { checks: spent, asks: spent });
    }
    assert_eq!(look(&mut guard, &question).unwrap_err(), RendezvousError::Busy(Duration::from_secs(1)));
    // Who has not asked for a while is forgotten then.
    let later = Side { now: NOW + Duration::from_secs(20), ..Side::new(listener()) };
    assert!(guard.look(&later.terms(), &question, |_| true).is_ok());
    assert_eq!(guard.peers.len(), 1);
}
