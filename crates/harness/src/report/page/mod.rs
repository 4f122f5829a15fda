//! Pages for a browser: one of a run ([`failure`]), one of a gate ([`gate`]), one of a load run
//! ([`load`]).
//!
//! A page is one file that asks nothing of the network: styles, script and data stand in it, and
//! its policy forbids it to load anything. Without scripts the story and the tables are still
//! there.

mod chart;
mod curve;
mod data;
pub mod failure;
pub mod gate;
pub mod load;
pub mod size;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::verdict::Verdict;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What a page may load: nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// A whole page. `data` is JSON for its diagrams, if it has any.
fn shell(title: &str, body: &Markup, data: Option<&str>) -> String {
    // JSON in a script element must not end it.
    let data = data.map(|data| data.replace('<', "\\u003c"));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                footer {
                    p {
                        "Made by redeliver " (env!("CARGO_PKG_VERSION")) ". This page stands alone: \
                         it loads nothing and sends nothing. It holds keys of messages, never \
                         payloads; error texts of handlers are in it as they were."
                    }
                }
                div .tip #tip hidden {}
                @if let Some(data) = data {
                    script type="application/json" #data { (PreEscaped(data)) }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn theme_button() -> Markup {
    html! { button #theme .screen type="button" title="dark or light" { "◐" } }
}

fn badge(verdict: Verdict) -> Markup {
    html! { span class={ "badge " (verdict.as_str()) } { (verdict.as_str()) } }
}

/// A text to be copied.
fn copied(id: &str, text: &str) -> Markup {
    html! {
        div .copied {
            pre id=(id) { (text) }
            button .screen type="button" data-copy=(id) { "copy" }
        }
    }
}
