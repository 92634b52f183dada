//! `/accountz`: the accounts.

use jiff::Timestamp;
use midge_router::Account;
use serde::Serialize;

use super::subsz::SublistStats;
use super::{BadQuery, Query};
use crate::server::Server;

/// nats-server 2.15's `Accountz`.
#[derive(Serialize)]
pub(super) struct Accountz<'a> {
    server_id: &'a str,
    now: Timestamp,
    system_account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<AccountInfo>,
}

/// nats-server 2.15's `AccountInfo`.
#[derive(Serialize)]
pub(crate) struct AccountInfo {
    account_name: String,
    update_time: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u32,
    client_connections: u32,
    subscriptions: u32,
    name_tag: String,
    sublist_stats: SublistStats,
}

pub(super) fn read<'a>(server: &'a Server, query: &Query) -> Result<Accountz<'a>, BadQuery> {
    let (accounts, account_detail) = match query.text("acc") {
        Some(name) => (None, Some(account_info(server, name)?)),
        None => {
            let accounts = server.router().accounts();
            (Some(accounts.iter().map(|account| account.name().to_string()).collect()), None)
        }
    };
    Ok(Accountz {
        server_id: server.id(),
        now: Timestamp::now(),
        system_account: server.router().system_account().name().to_string(),
        accounts,
        account_detail,
    })
}

/// What there is to say of the account of that name.
pub(crate) fn account_info(server: &Server, name: &str) -> Result<AccountInfo, BadQuery> {
    let account = server.router().account(name);
    let account = account.ok_or_else(|| BadQuery(format!("Account {name} does not exist")))?;
    let account: &Account = &account;
    Ok(AccountInfo {
        account_name: name.to_owned(),
        update_time: server.configured_at(),
        is_system: account.is_system(),
        expired: false,
        complete: true,
        jetstream_enabled: false,
        leafnode_connections: super::accstatz::leafnodes(server, account),
        client_connections: account.clients(),
        subscriptions: account.subscriptions(),
        name_tag: name.to_owned(),
        sublist_stats: SublistStats::of(server, Some(account)),
    })
}
