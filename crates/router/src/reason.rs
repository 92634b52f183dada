//! Why a connection ended.

/// Why a connection ended, as monitoring shows it (nats-server's `server/monitor.go`, `ClosedState.String`).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is explained by the text that it prints")]
pub enum CloseReason {
    ClientClosed,
    AuthenticationTimeout,
    AuthenticationViolation,
    SlowConsumerPendingBytes,
    SlowConsumerWriteDeadline,
    WriteError,
    ReadError,
    ParseError,
    StaleConnection,
    ProtocolViolation,
    BadClientProtocolVersion,
    MaxConnectionsExceeded,
    MaxAccountConnectionsExceeded,
    MaxSubscriptionsExceeded,
    MaxPayloadExceeded,
    MaxControlLineExceeded,
    ServerShutdown,
    Kicked,
    TlsHandshakeError,
    NoRespondersRequiresHeaders,
    WrongPort,
    DuplicateRoute,
    ClusterNameConflict,
    MissingAccount,
    MinimumVersionRequired,
    DuplicateRemoteLeafnode,
    SubscribeViolation,
    PublishViolation,
}

impl CloseReason {
    /// The text that `/connz?state=closed` shows.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationViolation => "Authentication Failure",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::ProtocolViolation => "Protocol Violation",
            Self::BadClientProtocolVersion => "Bad Client Protocol Version",
            Self::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            Self::MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            Self::MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            Self::Kicked => "Kicked",
            Self::TlsHandshakeError => "TLS Handshake Failure",
            Self::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            Self::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            Self::ServerShutdown => "Server Shutdown",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::WrongPort => "Incorrect Port",
            Self::DuplicateRoute => "Duplicate Route",
            Self::ClusterNameConflict => "Cluster Name Conflict",
            Self::MissingAccount => "Missing Account",
            Self::MinimumVersionRequired => "Minimum Version Required",
            Self::DuplicateRemoteLeafnode => "Duplicate Remote LeafNode",
            Self::SubscribeViolation => "Subscribe Violation",
            Self::PublishViolation => "Publish Violation",
        }
    }

    /// Whether the peer could not keep up.
    #[must_use]
    pub const fn is_slow_consumer(self) -> bool {
        matches!(self, Self::SlowConsumerPendingBytes | Self::SlowConsumerWriteDeadline)
    }

    /// Whether what still waits should be written before the connection goes.
    #[must_use]
    pub const fn flushes(self) -> bool {
        !matches!(
            self,
            Self::SlowConsumerPendingBytes
                | Self::SlowConsumerWriteDeadline
                | Self::WriteError
                | Self::ReadError
                | Self::TlsHandshakeError
        )
    }
}
