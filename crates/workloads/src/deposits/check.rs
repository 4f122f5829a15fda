//! What must hold of the books of `deposits`, to the cent.

use std::collections::{BTreeMap, BTreeSet};

use super::instruction;
use super::rows::{Balance, CASH, Decline, IN_FLIGHT, Instruction, Posting, Side};
use crate::books::{Books, once};
use redeliver_harness::team::workload::Request;
use redeliver_harness::verdict::{Anomaly, AnomalyKind};
use redeliver_harness::watch::reading::FinalReading;

/// Everything that the check reads.
struct Tables {
    instructions: BTreeMap<String, Instruction>,
    declines: BTreeMap<String, Decline>,
    balances: BTreeMap<String, Balance>,
    /// By owner and number of the entry.
    entries: BTreeMap<(String, u64), Vec<Posting>>,
    /// What each posting adds, by request and account.
    moves: BTreeMap<String, BTreeMap<String, Vec<i64>>>,
    /// By account.
    sums: BTreeMap<String, i128>,
}

impl Tables {
    /// How often `request` has moved `account`, and by how much.
    fn moves(&self, request: &str, account: &str) -> &[i64] {
        let accounts = self.moves.get(request);
        accounts
            .and_then(|accounts| accounts.get(account))
            .map_or(&[], Vec::as_slice)
    }

    /// What the postings make of an account.
    fn sum(&self, account: &str) -> i128 {
        self.sums.get(account).copied().unwrap_or(0)
    }
}

/// Judges the end of a run.
pub(super) fn check(accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
    let mut books = Books::open("deposits", reading);
    let tables = read(&mut books);
    let mut known = BTreeSet::new();
    let mut due = Due::default();
    for request in once(accepted) {
        match instruction(request) {
            Ok(asked) => {
                of_request(&mut books, &tables, request, &asked, &mut due);
                known.insert(asked.request);
            }
            Err(error) => {
                let promise = "a request can be read";
                let seen = format!("{}: {error}", request.key);
                books.report(AnomalyKind::Invariant, Some(request), "", promise, seen);
            }
        }
    }
    strangers(&mut books, &tables, &known);
    entries(&mut books, &tables);
    balances(&mut books, &tables);
    totals(&mut books, &tables, &due);
    books.close()
}

fn read(books: &mut Books<'_>) -> Tables {
    let mut tables = Tables {
        instructions: books.table(),
        declines: books.table(),
        balances: books.table(),
        entries: BTreeMap::new(),
        moves: BTreeMap::new(),
        sums: BTreeMap::new(),
    };
    for posting in books.table::<Posting>().into_values() {
        let (account, cents) = (posting.account.clone(), posting.signed());
        *tables.sums.entry(account.clone()).or_default() += i128::from(cents);
        let moves = tables.moves.entry(posting.request.clone()).or_default();
        moves.entry(account).or_default().push(cents);
        let entry = (posting.owner.clone(), posting.number);
        tables.entries.entry(entry).or_default().push(posting);
    }
    tables
}

/// What the totals must be, by what was asked for and is not excused.
#[derive(Default)]
struct Due {
    /// Deposits accepted.
    deposited: i128,
    /// Money that may be between two accounts.
    in_flight: i128,
}

/// A deposit moves one account; a transfer moves both, or is declined and moves none.
fn of_request(
    books: &mut Books<'_>,
    tables: &Tables,
    request: &Request,
    asked: &Instruction,
    due: &mut Due,
) {
    use AnomalyKind::{Duplicated, Invariant, Lost};
    let id = &asked.request;
    let excused = books.excused(id);
    if tables.instructions.get(id) != Some(asked) {
        let promise = "an accepted request stands in the instructions";
        let seen = format!("{id} does not, or differs");
        books.report(Invariant, Some(request), "", promise, seen);
    }
    let promise = "each half of a request is posted once, with its amount";
    let mut half = |account: &str, cents: i64, may_miss: bool| {
        let moves = tables.moves(id, account);
        let kind = match moves.len() {
            0 if may_miss => return false,
            0 => Lost,
            1 if *moves == [cents] => return true,
            1 => Invariant,
            _ => Duplicated,
        };
        let seen = format!("{id} has moved {account} by {moves:?} instead of {cents}");
        books.report(kind, Some(request), "ledger", promise, seen);
        !moves.is_empty()
    };
    let Some(from) = &asked.from else {
        if half(&asked.to, asked.cents, excused) || !excused {
            due.deposited += i128::from(asked.cents);
        }
        return;
    };
    let declined = tables.declines.contains_key(id);
    let out = half(from, -asked.cents, excused || declined);
    let came = half(&asked.to, asked.cents, excused || declined || !out);
    if out && !came && excused {
        due.in_flight += i128::from(asked.cents);
    }
    if declined && (out || came) {
        let promise = "a declined transfer moves nothing";
        let seen = format!("{id} was declined and posted");
        books.report(Invariant, Some(request), "ledger", promise, seen);
    }
}

/// Rows of requests that nobody made.
fn strangers(books: &mut Books<'_>, tables: &Tables, known: &BTreeSet<String>) {
    let rows = [
        ("instructed", tables.instructions.keys().collect::<Vec<_>>()),
        ("declined", tables.declines.keys().collect()),
        ("posted", tables.moves.keys().collect()),
    ];
    for (done, requests) in rows {
        let requests = requests.into_iter();
        for request in requests.filter(|request| !known.contains(*request)) {
            let promise = "nothing is done for a request that was not accepted";
            let seen = format!("{request} was {done}");
            let kind = AnomalyKind::EffectWithoutEvent;
            books.report(kind, None, "ledger", promise, seen);
        }
    }
}

/// Each entry has a debit and a credit of one amount, and those of an account are numbered
/// without gaps.
fn entries(books: &mut Books<'_>, tables: &Tables) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for ((owner, number), legs) in &tables.entries {
        let balanced = match &legs[..] {
            [a, b] => {
                let (debit, credit) = if a.side == Side::Debit {
                    (a, b)
                } else {
                    (b, a)
                };
                (debit.side, credit.side) == (Side::Debit, Side::Credit)
                    && (debit.cents, &debit.request) == (credit.cents, &credit.request)
                    && debit.cents > 0
            }
            _ => false,
        };
        if !balanced {
            let promise = "an entry is a debit and a credit of the same amount";
            let seen = format!("entry {number} of {owner}: {legs:?}");
            books.report(AnomalyKind::Invariant, None, "ledger", promise, seen);
        }
        let before = last.insert(owner, *number).unwrap_or(0);
        if *number != before + 1 {
            let promise = "the entries of an account are numbered without gaps";
            let seen = format!("entry {number} of {owner} follows {before}");
            books.report(AnomalyKind::Invariant, None, "ledger", promise, seen);
        }
    }
    for (owner, last) in last {
        let counted = tables.balances.get(owner).map_or(0, |row| row.entries);
        if counted != last {
            let promise = "an account has counted its entries";
            let seen = format!("{owner}: {counted} counted, the last is {last}");
            books.report(AnomalyKind::Invariant, None, "ledger", promise, seen);
        }
    }
}

/// A balance is the sum of its postings, and never below zero.
fn balances(books: &mut Books<'_>, tables: &Tables) {
    for balance in tables.balances.values() {
        let sum = tables.sum(&balance.account);
        if i128::from(balance.cents) != sum || balance.cents < 0 {
            let promise = "a balance is the sum of its postings, not below zero";
            let seen = format!("{balance:?}, postings: {sum}");
            books.report(AnomalyKind::Invariant, None, "ledger", promise, seen);
        }
    }
}

/// No cent appears or vanishes: what the customers have is what they brought, less what is on
/// its way between them.
fn totals(books: &mut Books<'_>, tables: &Tables, due: &Due) {
    let balances = tables.balances.values();
    let held: i128 = balances.map(|balance| i128::from(balance.cents)).sum();
    if held + due.in_flight != due.deposited {
        let promise = "all accounts together hold what was deposited";
        let seen = format!(
            "{held} in accounts and {} in flight, of {} cents deposited; cash says {}",
            due.in_flight,
            due.deposited,
            -tables.sum(CASH),
        );
        books.report(AnomalyKind::Invariant, None, "ledger", promise, seen);
    }
    let in_flight = tables.sum(IN_FLIGHT);
    if in_flight != due.in_flight {
        let promise = "no money stays in flight but that of work that was given up";
        let seen = format!("{in_flight} cents instead of {}", due.in_flight);
        books.report(AnomalyKind::Invariant, None, "ledger", promise, seen);
    }
}
