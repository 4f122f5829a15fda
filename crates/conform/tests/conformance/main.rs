//! One suite, two arms: what the pipeline leans on, written once and demanded of the simulated
//! and of the real server alike.
//!
//! A case is a function over a port. Its simulated arm runs it in worlds of several seeds, its
//! real arm against `DATABASE_URL` and `AMQP_URL`; where no server is named the real arm is left
//! out, loudly. `cargo test -p redeliver-conform --test conformance -- --nocapture` ends with a table of all cases.

mod amqp;
mod fidelity;
mod lab;
mod operator;
mod sql;
mod store;
mod table;
mod transport;

/// Makes a test of each case on each arm; the operator's real cases, which share a node, are all
/// run by one test (`operator::on_a_node_of_their_own`), since test runners may give each test a
/// process of its own. In brackets: the kinds of queue it is shown on, which its
/// simulated arm is held to.
macro_rules! cases {
    (operator $title:literal: $($name:ident $([$($kind:ident)+])?),+ $(,)?) => {
        crate::cases!(@simulated operator $title: $($name $([$($kind)+])?),+);

        pub(crate) const REAL: &[crate::operator::Real] = &[$(crate::operator::Real {
            module: concat!(module_path!(), "::real"),
            case: stringify!($name),
            run: || crate::operator::real($name),
        }),+];
    };
    ($suite:ident $title:literal: $($name:ident $([$($kind:ident)+])?),+ $(,)?) => {
        crate::cases!(@simulated $suite $title: $($name $([$($kind)+])?),+);

        mod real {
            $(#[test]
            fn $name() {
                let run = || crate::$suite::real(super::$name);
                crate::table::record(module_path!(), stringify!($name), run);
            })+
        }
    };
    (@simulated $suite:ident $title:literal: $($name:ident $([$($kind:ident)+])?),+ $(,)?) => {
        pub(crate) const CASES: crate::table::Suite = crate::table::Suite {
            title: $title,
            cases: &[$(crate::table::Case {
                name: stringify!($name),
                kinds: &[$($(stringify!($kind)),+)?],
            }),+],
        };

        mod simulated {
            $(#[test]
            fn $name() {
                let run = || crate::$suite::simulated(super::$name);
                let kinds: &[&str] = &[$($(stringify!($kind)),+)?];
                let run = || crate::lab::on_kinds(kinds, run);
                crate::table::record(module_path!(), stringify!($name), run);
            })+
        }
    };
}
pub(crate) use cases;
