//! What every [`Bus`] must do, as a program that a new one runs in its tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::bus::{Bus, BusEvent, Message, Messages};
use crate::error::BusError;

/// Time in which anything must have happened.
const BOUND: Duration = Duration::from_secs(20);
/// Messages that are in order.
const MANY: usize = 500;

/// Checks two buses by which messages go both ways, and which nobody else uses. They have ended when this is over.
///
/// # Panics
/// They do something that a [`Bus`] must not.
pub async fn check(one: Arc<dyn Bus>, other: Arc<dyn Bus>) {
    wildcards(&*one, &*other).await;
    everything(&*one, &*other).await;
    everything_of_a_message(&*one, &*other).await;
    order(&*one, &*other).await;
    queue_groups(&*one, &*other).await;
    questions(&one, &other).await;
    what_is_dropped(&*one, &*other).await;
    what_is_wrong(&*one).await;
    draining(one, &*other).await;
}

async fn subscribe(bus: &dyn Bus, subject: &str, queue: Option<&str>) -> Messages {
    match timeout(BOUND, bus.subscribe(subject, queue)).await {
        Ok(Ok(messages)) => messages,
        other => panic!("no subscription on {subject}: {other:?}"),
    }
}

async fn publish(bus: &dyn Bus, message: Message) {
    let published = timeout(BOUND, bus.publish(message)).await;
    assert!(matches!(published, Ok(Ok(()))), "not published: {published:?}");
}

async fn flush(bus: &dyn Bus) {
    let flushed = timeout(BOUND, bus.flush()).await;
    assert!(matches!(flushed, Ok(Ok(()))), "not flushed: {flushed:?}");
}

async fn next(messages: &mut Messages) -> Message {
    match timeout(BOUND, messages.next()).await {
        Ok(Some(message)) => message,
        other => panic!("no message has come: {other:?}"),
    }
}

/// Has the subscriptions of `to` known to `from`, which may not be at once where they are different servers.
async fn meet(from: &dyn Bus, to: &dyn Bus) {
    let mut here = subscribe(to, "conformance.meet", None).await;
    let heard = async {
        loop {
            publish(from, Message::new("conformance.meet", "")).await;
            if timeout(Duration::from_millis(50), here.next()).await.is_ok() {
                return;
            }
        }
    };
    assert!(timeout(BOUND, heard).await.is_ok(), "the buses never meet");
}

async fn wildcards(one: &dyn Bus, other: &dyn Bus) {
    let mut token = subscribe(other, "w.*.c", None).await;
    let mut tail = subscribe(other, "w.>", None).await;
    let mut own = subscribe(one, "w.b.c", None).await;
    meet(one, other).await;
    for subject in ["w.b", "w.b.c", "x.b.c", "w.b.c.d"] {
        publish(one, Message::new(subject, subject)).await;
    }
    for messages in [&mut token, &mut own] {
        let message = next(messages).await;
        assert_eq!((message.subject.as_str(), &message.payload[..]), ("w.b.c", &b"w.b.c"[..]));
    }
    for want in ["w.b", "w.b.c", "w.b.c.d"] {
        assert_eq!(next(&mut tail).await.subject, want, "w.> hears what is below w");
    }
}

/// Whoever hears everything hears what others say, and nothing that buses say to themselves.
async fn everything(one: &dyn Bus, other: &dyn Bus) {
    let mut all = subscribe(other, ">", None).await;
    meet(one, other).await;
    flush(one).await;
    publish(one, Message::new("all.of.it", "")).await;
    loop {
        let message = next(&mut all).await;
        if message.subject == "all.of.it" {
            return;
        }
        assert_eq!(message.subject, "conformance.meet", "nobody said that");
    }
}

async fn everything_of_a_message(one: &dyn Bus, other: &dyn Bus) {
    let mut heard = subscribe(other, "m", None).await;
    meet(one, other).await;
    let headers = [("Same", "1"), ("Same", "2"), ("Other", "with: colon, and \u{e4}"), ("Empty", "")];
    let message = Message {
        subject: "m".to_owned(),
        reply: "answers.here".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        payload: (0..=255).collect::<Vec<u8>>().into(),
    };
    publish(one, message.clone()).await;
    publish(one, Message::new("m", "")).await;
    let mut got = next(&mut heard).await;
    // Values of one name keep their order, and names need not.
    got.headers.sort_by(|one, other| one.0.cmp(&other.0));
    let mut want = message;
    want.headers.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(got, want);
    assert_eq!(next(&mut heard).await, Message::new("m", ""), "nothing is added");
}

async fn order(one: &dyn Bus, other: &dyn Bus) {
    let mut heard = subscribe(other, "o.*", None).await;
    meet(one, other).await;
    for n in 0..MANY {
        publish(one, Message::new(if n % 2 == 0 { "o.a" } else { "o.b" }, n.to_string())).await;
    }
    for n in 0..MANY {
        assert_eq!(
            next(&mut heard).await.payload,
            n.to_string(),
            "what is published in order comes in order"
        );
    }
}

async fn queue_groups(one: &dyn Bus, other: &dyn Bus) {
    let mut members =
        [subscribe(other, "q.>", Some("workers")).await, subscribe(other, "q.>", Some("workers")).await];
    let mut all = subscribe(other, "q.>", None).await;
    meet(one, other).await;
    for n in 0..MANY {
        publish(one, Message::new("q.job", n.to_string())).await;
    }
    publish(one, Message::new("q.end", "")).await;
    let mut counts = [0, 0];
    for _ in 0..=MANY {
        next(&mut all).await;
    }
    // All have been handed on to somebody; an end goes to one of the two only.
    let [first, second] = &mut members;
    for _ in 0..=MANY {
        let heard = async {
            tokio::select! {
                Some(_) = first.next() => 0,
                Some(_) = second.next() => 1,
            }
        };
        match timeout(BOUND, heard).await {
            Ok(0) => counts[0] += 1,
            Ok(_) => counts[1] += 1,
            Err(_) => panic!("{counts:?} of {} messages went to the group", MANY + 1),
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "each has a share: {counts:?}");
}

async fn questions(one: &Arc<dyn Bus>, other: &Arc<dyn Bus>) {
    let mut asked = subscribe(&**other, "ask.*", Some("service")).await;
    meet(&**one, &**other).await;
    let answers = other.clone();
    let answering = tokio::spawn(async move {
        while let Some(question) = asked.next().await {
            assert!(!question.reply.is_empty(), "a question says where its answer goes");
            if question.subject == "ask.nothing" {
                continue;
            }
            let headers = question.headers.clone();
            let answer = Message { headers, ..Message::new(&question.reply, question.payload) };
            publish(&*answers, answer).await;
        }
    });
    let question =
        Message { headers: vec![("N".to_owned(), "v".to_owned())], ..Message::new("ask.echo", "what") };
    let answer = timeout(BOUND, one.request(question, BOUND)).await;
    let Ok(Ok(answer)) = answer else { panic!("no answer: {answer:?}") };
    assert_eq!((&answer.payload[..], answer.header("N")), (&b"what"[..], Some("v")));
    let own = timeout(BOUND, other.request(Message::new("ask.echo", "self"), BOUND)).await;
    assert!(matches!(&own, Ok(Ok(answer)) if answer.payload == "self"), "whoever answers may ask: {own:?}");
    let late = one.request(Message::new("ask.nothing", ""), Duration::from_millis(100)).await;
    assert_eq!(late, Err(BusError::Timeout("ask.nothing".to_owned())));
    let nobody = timeout(BOUND, one.request(Message::new("nobody.listens", ""), BOUND)).await;
    assert_eq!(nobody, Ok(Err(BusError::NoResponders("nobody.listens".to_owned()))));
    answering.abort();
}

async fn what_is_dropped(one: &dyn Bus, other: &dyn Bus) {
    let (gone, mut stays) = (subscribe(other, "d", None).await, subscribe(other, "d", None).await);
    meet(one, other).await;
    drop(gone);
    publish(one, Message::new("d", "x")).await;
    assert_eq!(next(&mut stays).await.payload, "x", "the others' subscriptions go on");
    drop(stays);
    let ended = async {
        // The other side learns of it in its own time; until then nobody answers.
        while one.request(Message::new("d", ""), Duration::from_millis(20)).await
            != Err(BusError::NoResponders("d".to_owned()))
        {}
    };
    assert!(timeout(BOUND, ended).await.is_ok(), "a subscription that is dropped ends");
}

async fn what_is_wrong(bus: &dyn Bus) {
    for subject in ["", "a.", ".a", "a..b", "a b", "a\r\nPUB x 0\r\n", "a.*", ">"] {
        let refused = bus.publish(Message::new(subject, "")).await;
        assert_eq!(
            refused,
            Err(BusError::Subject(subject.to_owned())),
            "nothing is published to '{subject}'"
        );
        let reply = Message { reply: subject.to_owned(), ..Message::new("a", "") };
        let refused = bus.publish(reply).await;
        assert_eq!(refused.is_ok(), subject.is_empty(), "no answers go to '{subject}'");
        let asked = bus.request(Message::new(subject, ""), BOUND).await;
        assert_eq!(asked, Err(BusError::Subject(subject.to_owned())), "nobody is asked on '{subject}'");
    }
    for subject in ["", "a.", "a..b", "a b", "a.>.b", "a\r\nSUB x 1\r\n"] {
        let refused = bus.subscribe(subject, None).await.map(drop);
        assert_eq!(refused, Err(BusError::Subject(subject.to_owned())), "'{subject}' is none");
    }
    for queue in ["", "a b", "a\r\n"] {
        let refused = bus.subscribe("a", Some(queue)).await.map(drop);
        assert_eq!(refused, Err(BusError::Queue(queue.to_owned())), "'{queue}' is no group");
    }
    for (name, value) in
        [("", "v"), ("a:b", "v"), ("a b", "v"), ("a\r\nb", "v"), ("a", "v\r\nb: c"), ("a", "v\n")]
    {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let refused = bus.publish(Message { headers, ..Message::new("a", "") }).await;
        assert!(matches!(refused, Err(BusError::Header(_))), "{name}: {value} is no header");
    }
    let long = bus.publish(Message::new("a", vec![0; 100_000_000])).await;
    assert!(matches!(long, Err(BusError::TooLong { size: 100_000_000.., .. })), "too long: {long:?}");
}

async fn draining(one: Arc<dyn Bus>, other: &dyn Bus) {
    let mut events = one.events();
    let (mut ends, mut hears) = (subscribe(&*one, "e", None).await, subscribe(other, "f", None).await);
    meet(other, &*one).await;
    meet(&*one, other).await;
    for n in 0..3 {
        publish(other, Message::new("e", n.to_string())).await;
    }
    flush(other).await;
    // By the same way, so that the others have come before it.
    let mut marks = subscribe(&*one, "marks", None).await;
    meet(other, &*one).await;
    publish(other, Message::new("marks", "")).await;
    next(&mut marks).await;
    publish(&*one, Message::new("f", "last words")).await;
    let drained = timeout(BOUND, one.drain()).await;
    assert_eq!(drained, Ok(Ok(())));
    assert_eq!(next(&mut hears).await.payload, "last words", "what was published is not lost");
    for n in 0..3 {
        assert_eq!(next(&mut ends).await.payload, n.to_string(), "nor is what has come");
    }
    assert!(matches!(timeout(BOUND, ends.next()).await, Ok(None)), "subscriptions end");
    for refused in [
        one.publish(Message::new("f", "")).await,
        one.subscribe("f", None).await.map(drop),
        one.request(Message::new("f", ""), BOUND).await.map(drop),
        one.flush().await,
        one.drain().await,
    ] {
        assert_eq!(refused, Err(BusError::Closed), "it has ended");
    }
    let closed = async {
        while let Some(event) = events.next().await {
            if event == BusEvent::Closed {
                return;
            }
        }
    };
    assert!(timeout(BOUND, closed).await.is_ok(), "its end is told");
}
