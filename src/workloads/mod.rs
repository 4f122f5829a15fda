//! The built-in workloads: real handlers, used by every mode.
//!
//! They are written as a backend team would write its own, and may be read as examples:
//!
//! * [`orders`] calls a payment service that no transaction covers,
//! * [`onboarding`] spans several domains and takes its events in any order,
//! * [`deposits`] moves money and depends on order for each account.
//!
//! Their handlers trust the inbox and do not look a second time whether their work was done
//! before. A pipeline that hands a message over twice is therefore seen in their books.
//!
//! Each has its messages, its rows, its handlers, and a check of the books at the end.

mod books;
pub mod deposits;
pub mod onboarding;
pub mod orders;
mod steps;
#[cfg(test)]
mod testing;

pub use deposits::Deposits;
pub use onboarding::Onboarding;
pub use orders::Orders;
