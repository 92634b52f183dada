//! What the driver does differently for different kinds of peers.

use std::sync::Arc;

use midge_router::{Client, CloseReason, Conn, Kind, Leaf, LeafNews, Role, Route, RouteNews};
use midge_wire::json::Credentials;

use crate::auth::{Caller, Decision};
use crate::cluster::RouteDuty;
use crate::leafnode::LeafDuty;
use crate::reload::look_again;
use crate::server::Server;
use crate::setup::Setup;

/// A kind of peer, as those see it who drive its connections.
pub(crate) trait Guest: Role {
    /// What is to be done for the peer besides moving its bytes.
    type Duty: Unpin + 'static;

    /// Finds out who the peer is.
    fn decide(setup: &Setup, credentials: &Credentials, caller: Caller<'_>) -> Decision;

    /// Sees to it that a change of options holds for the connection, too.
    fn follow_reload(_conn: &Arc<Conn>, _setup: &Setup) {}

    /// The peer has been let in.
    fn connected(_server: &Server, _conn: &Arc<Conn>) {}

    /// There is something new about the cluster.
    fn news(_duty: &mut Self::Duty, _server: &Arc<Server>, _conn: &Arc<Conn>, _news: RouteNews) {}

    /// There is something new about a leafnode connection.
    fn leaf_news(_duty: &mut Self::Duty, _conn: &Conn, _news: LeafNews) {}

    /// The session was closed from this side.
    fn closed(_duty: &mut Self::Duty, _error: Option<&midge_router::SessionError>) {}

    /// The connection has ended.
    fn ended(duty: &mut Self::Duty, server: &Arc<Server>, conn: &Arc<Conn>, how: End<'_>);
}

/// How a connection has ended.
pub(crate) struct End<'a> {
    pub(crate) reason: CloseReason,
    /// Whom the peer said that it was, if that was not believed.
    pub(crate) claimed: Option<&'a Credentials>,
}

impl Guest for Client {
    type Duty = ();

    fn decide(setup: &Setup, credentials: &Credentials, caller: Caller<'_>) -> Decision {
        setup.directory.decide(credentials, caller)
    }

    fn follow_reload(conn: &Arc<Conn>, setup: &Setup) {
        look_again(conn, setup);
    }

    fn connected(server: &Server, conn: &Arc<Conn>) {
        server.tell_connect(conn);
    }

    fn ended((): &mut (), server: &Arc<Server>, conn: &Arc<Conn>, how: End<'_>) {
        server.tell_disconnect(conn, how.reason, how.claimed);
    }
}

impl Guest for Route {
    type Duty = RouteDuty;

    fn decide(setup: &Setup, credentials: &Credentials, caller: Caller<'_>) -> Decision {
        setup.directory.decide_route(&setup.options.cluster, credentials, caller)
    }

    fn news(duty: &mut RouteDuty, server: &Arc<Server>, conn: &Arc<Conn>, news: RouteNews) {
        duty.news(server, conn, news);
    }

    fn closed(duty: &mut RouteDuty, error: Option<&midge_router::SessionError>) {
        duty.closed(error);
    }

    fn ended(duty: &mut RouteDuty, server: &Arc<Server>, _: &Arc<Conn>, _: End<'_>) {
        duty.ended(server);
    }
}

impl Guest for Leaf {
    type Duty = LeafDuty;

    fn decide(setup: &Setup, credentials: &Credentials, caller: Caller<'_>) -> Decision {
        setup.directory.decide_leaf(&setup.options.leafnodes, credentials, caller)
    }

    fn connected(server: &Server, conn: &Arc<Conn>) {
        server.tell_connect(conn);
    }

    fn leaf_news(duty: &mut LeafDuty, conn: &Conn, news: LeafNews) {
        duty.news(conn, news);
    }

    fn closed(duty: &mut LeafDuty, error: Option<&midge_router::SessionError>) {
        duty.closed(error);
    }

    fn ended(duty: &mut LeafDuty, server: &Arc<Server>, conn: &Arc<Conn>, how: End<'_>) {
        if duty.was_joined() && conn.kind() == Kind::Spoke {
            server.tell_disconnect(conn, how.reason, how.claimed);
        }
        duty.ended();
    }
}
