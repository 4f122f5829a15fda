//! Accounts, and what they may do. A connection without an account may do everything.

use std::sync::Arc;

use super::{
    Broker, ChanId, Closed, ConnId, channel::Connection, exchange::Exchange, types::ExchangeKind,
};

/// Which names a permission covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every name.
    All,
    /// None.
    Nothing,
    /// Names that begin with this.
    Prefix(Arc<str>),
    /// Names in which this is found.
    Expression(Expression),
}

/// A regular expression as RabbitMQ takes it: found anywhere in a name unless it is anchored.
#[derive(Clone, Debug)]
pub struct Expression {
    regex: Arc<fancy_regex::Regex>,
}

impl Expression {
    /// The expression of this text. An empty one covers nothing but the empty name, as in
    /// RabbitMQ, where it stands for `^$`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { "^$" } else { text };
        let regex = fancy_regex::Regex::new(text).map_err(|error| error.to_string())?;
        Ok(Self {
            regex: Arc::new(regex),
        })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether it is found in this name. One that is given up for taking too long is not.
    pub fn covers(&self, name: &str) -> bool {
        self.regex.is_match(name).unwrap_or(false)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Expression {}

impl Pattern {
    fn covers(&self, name: &str) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Nothing => false,
            Pattern::Prefix(prefix) => name.starts_with(&**prefix),
            Pattern::Expression(expression) => expression.covers(name),
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
