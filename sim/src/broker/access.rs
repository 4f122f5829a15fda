//! Accounts, and what they may do. A connection without an account may do everything.

use std::sync::Arc;

use super::{
    Broker, ChanId, Closed, ConnId, channel::Connection, exchange::Exchange, types::ExchangeKind,
};

/// Which names a permission covers. RabbitMQ takes any regular expression; these are the ones
/// that accounts of services need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every name.
    All,
    /// None.
    Nothing,
    /// Names that begin with this.
    Prefix(Arc<str>),
}

impl Pattern {
    fn covers(&self, name: &str) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Nothing => false,
            Pattern::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// What an account may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Queues and exchanges it may declare and delete.
    pub configure: Pattern,
    /// Exchanges it may publish to, queues it may bind.
    pub write: Pattern,
    /// Queues it may take messages from, exchanges it may bind to.
    pub read: Pattern,
    /// For topic exchanges of these names also the routing keys: with which it may publish, and
    /// with which it may bind.
    pub topics: Vec<(Arc<str>, Pattern, Pattern)>,
}

/// One of the three permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Configure,
    Write,
    Read,
}

impl Broker {
    /// Makes an account or changes it; what it may do changes at once, also for open channels.
    pub fn set_account(&mut self, name: &str, account: Account) {
        self.accounts.insert(name.into(), account);
    }

    /// Opens a connection of an account; `None` where there is no such account.
    pub fn connect_as(&mut self, name: &str) -> Option<ConnId> {
        let (user, _) = self.accounts.get_key_value(name)?;
        self.connections.push(Some(Connection {
            user: Some(user.clone()),
            ..Connection::default()
        }));
        Some(ConnId((self.connections.len() - 1) as u32))
    }

    fn account_of(&self, chan: ChanId) -> Option<(&Arc<str>, &Account)> {
        let connection = self.connections.get(chan.conn.0 as usize)?.as_ref()?;
        self.accounts.get_key_value(connection.user.as_ref()?)
    }

    /// 403 where the account of this channel has no such right on that queue or exchange. Comes
    /// before any look at what exists (source of 3.10.8).
    pub(super) fn check_access(
        &mut self,
        chan: ChanId,
        right: Right,
        (what, name): (&str, &str),
    ) -> Result<(), Closed> {
        let Some((user, account)) = self.account_of(chan) else {
            return Ok(());
        };
        // The default exchange has this name here.
        let name = match name {
            "" if what == "exchange" => "amq.default",
            name => name,
        };
        let pattern = match right {
            Right::Configure => &account.configure,
            Right::Write => &account.write,
            Right::Read => &account.read,
        };
        if pattern.covers(name) {
            return Ok(());
        }
        let text = format!(
            "ACCESS_REFUSED - access to {what} '{name}' in vhost '/' refused for user '{user}'"
        );
        Err(self.fail_channel(chan, 403, text))
    }

    /// On topic exchanges the routing key may need a permission, too.
    pub(super) fn check_topic(
        &mut self,
        chan: ChanId,
        right: Right,
        exchange: Option<usize>,
        key: &str,
    ) -> Result<(), Closed> {
        let exchange = exchange.and_then(|slot| self.exchanges[slot].as_ref());
        let topic = |exchange: &&Exchange| exchange.kind == ExchangeKind::Topic;
        let (Some((user, account)), Some(exchange)) =
            (self.account_of(chan), exchange.filter(topic))
        else {
            return Ok(());
        };
        let mut topics = account.topics.iter();
        let Some((name, write, read)) = topics.find(|(name, _, _)| *name == exchange.name) else {
            return Ok(());
        };
        let pattern = if right == Right::Write { write } else { read };
        if pattern.covers(key) {
            return Ok(());
        }
        let text = format!(
            "ACCESS_REFUSED - access to topic '{key}' in exchange '{name}' in vhost '/' refused \
             for user '{user}'"
        );
        Err(self.fail_channel(chan, 403, text))
    }
}
