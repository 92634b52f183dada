//! What servers are spoken to in.

/// A protocol, as far as the workloads need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// NATS's own.
    Nats,
    /// MQTT 3.1.1, everything with `QoS` 0.
    Mqtt,
    /// Redis's, version 2.
    Resp,
}

/// What is published.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) subject: String,
    /// Headers, end and all; none if empty.
    pub(crate) headers: &'static str,
    /// Bytes.
    pub(crate) payload: usize,
}

/// What is subscribed to.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) subject: String,
    /// None if empty.
    pub(crate) queue: &'static str,
    pub(crate) sid: usize,
}

impl Said {
    pub(crate) fn new(subject: impl Into<String>, payload: usize) -> Self {
        Self { subject: subject.into(), headers: "", payload }
    }
}

impl Wanted {
    pub(crate) fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), queue: "", sid: 1 }
    }
}

impl Dialect {
    /// How a client begins.
    pub(crate) fn hello(self) -> Vec<u8> {
        match self {
            Self::Nats => b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":1,\
                            \"user\":\"bench\",\"pass\":\"bench\"}\r\n"
                .to_vec(),
            // Clean session, no keep-alive, a name that the server chooses.
            Self::Mqtt => b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00".to_vec(),
            Self::Resp => Vec::new(),
        }
    }

    /// What is answered once everything before it has been done.
    pub(crate) const fn ping(self) -> &'static [u8] {
        match self {
            Self::Nats => b"PING\r\n",
            Self::Mqtt => b"\xc0\x00",
            Self::Resp => b"*1\r\n$4\r\nPING\r\n",
        }
    }

    /// Whether the answer to a ping has come.
    pub(crate) fn is_answered(self, heard: &[u8]) -> bool {
        match self {
            // An INFO may follow.
            Self::Nats => heard.windows(6).any(|window| window == b"PONG\r\n"),
            Self::Mqtt => heard.ends_with(b"\xd0\x00"),
            Self::Resp => heard.ends_with(b"+PONG\r\n") || heard.ends_with(b"pong\r\n$0\r\n\r\n"),
        }
    }

    pub(crate) fn subscribe(self, wanted: &Wanted) -> Vec<u8> {
        let Wanted { subject, queue, sid } = wanted;
        match self {
            Self::Nats if queue.is_empty() => format!("SUB {subject} {sid}\r\n").into_bytes(),
            Self::Nats => format!("SUB {subject} {queue} {sid}\r\n").into_bytes(),
            Self::Mqtt => {
                let mut packet = vec![0x82, (subject.len() + 5) as u8, 0, 1, 0, subject.len() as u8];
                packet.extend_from_slice(subject.as_bytes());
                packet.push(0);
                packet
            }
            Self::Resp => {
                format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{subject}\r\n", subject.len()).into_bytes()
            }
        }
    }

    pub(crate) fn publish(self, said: &Said) -> Vec<u8> {
        let Said { subject, headers, payload } = said;
        let mut bytes = match self {
            Self::Nats if headers.is_empty() => format!("PUB {subject} {payload}\r\n").into_bytes(),
            Self::Nats => {
                format!("HPUB {subject} {} {}\r\n{headers}", headers.len(), headers.len() + payload)
                    .into_bytes()
            }
            Self::Mqtt => {
                let mut packet = vec![0x30];
                let mut rest = subject.len() + 2 + payload;
                while rest >= 128 {
                    packet.push(rest as u8 | 128);
                    rest /= 128;
                }
                packet.extend([rest as u8, 0, subject.len() as u8]);
                packet.extend_from_slice(subject.as_bytes());
                packet
            }
            Self::Resp => format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{subject}\r\n${payload}\r\n", subject.len())
                .into_bytes(),
        };
        bytes.resize(bytes.len() + payload, b'x');
        if self != Self::Mqtt {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    /// Bytes that a subscriber with a sid of so many digits hears of what was published with `published` bytes.
    pub(crate) const fn heard(self, published: usize, sid_digits: usize) -> usize {
        match self {
            // `MSG` is as long as `PUB`, and has a sid and a blank more.
            Self::Nats => published + sid_digits + 1,
            // The same packet; `message` is as long as `PUBLISH`.
            Self::Mqtt | Self::Resp => published,
        }
    }

    /// Bytes that a publisher hears of a message for so many subscribers.
    pub(crate) const fn acknowledged(self, subscribers: usize) -> usize {
        match self {
            Self::Nats | Self::Mqtt => 0,
            Self::Resp if subscribers == 0 => 4,
            Self::Resp => 4 + subscribers.ilog10() as usize,
        }
    }
}
