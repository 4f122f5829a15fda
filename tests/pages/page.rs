//! The page of a run, as a person uses it.

use redeliver::harness::report::page::failure::{Failure, render};
use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::workloads::Orders;
use serde_json::json;

use super::browser::drive;
use super::caught;

#[test]
fn a_failure_opens_at_its_violation_with_the_small_run() {
    let found = caught("no-dedup");
    let value = drive(
        &found.page(),
        "const violations = page.all('.scroller polygon.violation').length;
        const effects = page.all('.scroller polygon.effect').length;
        await page.key('Home');
        const panel = page.panel();
        await page.key('v');
        const back = page.panel();
        dispatchEvent(new Event('beforeprint'));
        const faults = document.querySelectorAll('svg.print polygon.fault').length;
        return {
            first: panel, faults, violations, effects,
            title: document.title,
            focus: page.shown().querySelector('input').value,
            panel: back,
            lanes: page.lanes(),
            tabs: document.querySelectorAll('[role=tab]').length,
            visible: document.querySelectorAll('.diagram:not([hidden])').length,
            seed: document.getElementById('seed').textContent,
            capsule: document.getElementById('capsule').textContent,
        };",
    );
    let Some(value) = value else { return };
    let anomaly = &found.small.run.anomalies[0];
    assert!(
        value["title"]
            .as_str()
            .is_some_and(|t| t.contains("duplicated")),
        "{value}"
    );
    assert_eq!(value["focus"], json!(&*anomaly.message));
    assert!(
        value["panel"]
            .as_str()
            .is_some_and(|t| t.contains(&anomaly.seen)),
        "{value}"
    );
    assert_eq!(value["faults"], json!(found.small.faults()));
    assert_eq!(value["violations"], 1);
    // The service honours keys: its second answer is no second effect.
    assert_eq!(value["effects"], 1);
    assert_eq!((&value["tabs"], &value["visible"]), (&json!(3), &json!(1)));
    assert_eq!(value["seed"], json!(found.run.seed.to_string()));
    assert_eq!(value["capsule"], json!(found.capsule));
    let lanes = value["lanes"].as_array().expect("names of lanes");
    for lane in ["database", "broker"] {
        assert!(lanes.contains(&json!(lane)), "{value}");
    }
}

#[test]
fn keys_go_from_step_to_step_and_along_arrows() {
    let found = caught("no-dedup");
    let value = drive(
        &found.page(),
        "const seen = [];
        const press = async (key) => { await page.key(key); seen.push(page.panel()); };
        await press('Home'); await press('ArrowRight'); await press('ArrowLeft');
        await press('ArrowDown'); await press('f'); await press('v'); await press('End');
        const before = page.shown().querySelector('.spacer').style.height;
        await page.key('+'); await page.key('+');
        return { seen, before, after: page.shown().querySelector('.spacer').style.height };",
    );
    let Some(value) = value else { return };
    let seen: Vec<&str> = value["seen"]
        .as_array()
        .expect("texts")
        .iter()
        .filter_map(|t| t.as_str())
        .collect();
    assert!(seen[0].starts_with("commit: "), "{seen:#?}");
    assert!(seen[1].starts_with("publish "), "{seen:#?}");
    assert_eq!(seen[2], seen[0], "there and back");
    assert_ne!(seen[3], seen[2]);
    assert!(seen[4].contains("(fault)"), "{seen:#?}");
    assert!(seen[5].contains("(violation)"), "{seen:#?}");
    assert_ne!(value["before"], value["after"], "it grows");
}

#[test]
fn steps_are_chosen_by_message_and_runs_by_tab() {
    let found = caught("no-dedup");
    let value = drive(
        &found.page(),
        "const count = () => page.text('.count');
        const own = count();
        await page.tab(1);
        const filtered = count();
        await page.key('Escape');
        const all = count(), keys = page.shown().querySelectorAll('option').length;
        await page.type('no such message');
        const none = page.panel();
        await page.tab(2);
        return { own, filtered, all, keys, none, beside: page.all('.scroller polygon.violation').length,
            rows: page.labels().length };",
    );
    let Some(value) = value else { return };
    let numbers = |text: &serde_json::Value| -> Vec<u64> {
        let text = text.as_str().expect("a text").replace(',', "");
        text.split(' ')
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let (filtered, all) = (numbers(&value["filtered"]), numbers(&value["all"]));
    assert!(filtered[0] < filtered[1], "{value}");
    assert_eq!(all[0], all[1], "{value}");
    assert!(
        numbers(&value["own"])[1] < all[1],
        "the small run is smaller: {value}"
    );
    assert!(value["keys"].as_u64() >= Some(8), "{value}");
    assert!(
        value["none"]
            .as_str()
            .is_some_and(|t| t.contains("No step")),
        "{value}"
    );
    // The shipped pipeline breaks nothing under the same faults.
    assert_eq!(value["beside"], 0);
    assert!(value["rows"].as_u64() > Some(0));
}

#[test]
fn it_can_be_dark_hovered_copied_and_printed() {
    let found = caught("no-dedup");
    let value = drive(
        &found.page(),
        "const colour = () => getComputedStyle(document.body).backgroundColor;
        const light = colour();
        document.getElementById('theme').click();
        const dark = colour();
        const hit = page.all('.scroller .hit')[1];
        hit.querySelector('rect').dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX: 9, clientY: 9 }));
        const tip = document.getElementById('tip');
        const hovered = { hidden: tip.hidden, text: tip.textContent };
        page.all('.scroller .hit')[2].querySelector('rect').dispatchEvent(new MouseEvent('click', { bubbles: true }));
        await page.pause();
        const clicked = page.panel();
        dispatchEvent(new Event('beforeprint'));
        const printed = document.querySelectorAll('svg.print .hit').length;
        dispatchEvent(new Event('afterprint'));
        const rest = document.querySelectorAll('svg.print').length;
        document.querySelector('[data-copy=replay]').click();
        await page.pause();
        return { light, dark, hovered, clicked, printed, rest, rows: page.text('.count').split(' ')[0],
            copied: document.querySelector('[data-copy=replay]').textContent };",
    );
    let Some(value) = value else { return };
    assert_ne!(value["light"], value["dark"]);
    assert_eq!(value["hovered"]["hidden"], false);
    // A step of the message or of the one that it followed from.
    let message = &*found.small.run.anomalies[0].message;
    let message = message.split('>').next().expect("a name");
    assert!(
        value["hovered"]["text"]
            .as_str()
            .is_some_and(|t| t.contains(message)),
        "{value}"
    );
    assert!(
        value["clicked"]
            .as_str()
            .is_some_and(|t| t.contains(" s on ")),
        "{value}"
    );
    let rows = value["rows"].as_str().expect("a number");
    assert_eq!(value["printed"].to_string(), rows, "all of it is printed");
    assert_eq!(value["rest"], 0);
    // What a browser without a window allows differs.
    let copied = value["copied"].as_str();
    assert!(matches!(copied, Some("copied" | "selected")), "{value}");
}

/// Tens of thousands of steps, of which only those in sight are drawn.
#[test]
fn a_big_run_is_drawn_in_pieces() {
    let mut scenario = Scenario::new("big", "orders");
    scenario.messages = 1_500;
    let run = simulate(&Orders, &scenario, 1, true);
    let page = render(&Failure {
        scenario: &scenario,
        run: &run,
        judgement: &run.judgement(),
        real: None,
        again: "",
        small: None,
        beside: None,
        commit: "",
    });
    let value = drive(
        &page,
        "const scroller = page.shown().querySelector('.scroller');
        const at = async (share) => {
            scroller.scrollTop = scroller.scrollHeight * share;
            await page.pause();
            return { nodes: page.all('.scroller svg *').length, rows: page.labels().length };
        };
        const looks = [await at(0), await at(0.5), await at(1)];
        await page.key('End');
        return { looks, count: page.text('.count'), end: page.panel() };",
    );
    let Some(value) = value else { return };
    let count = value["count"].as_str().expect("a text");
    let steps: usize = count
        .split(' ')
        .next()
        .expect("a number")
        .replace(',', "")
        .parse()
        .expect("a number");
    assert!(steps > 20_000, "{count}");
    for look in value["looks"].as_array().expect("looks") {
        assert!(look["rows"].as_u64() >= Some(10), "{value}");
        assert!(look["nodes"].as_u64() < Some(2_000), "{value}");
    }
    assert!(
        value["end"].as_str().is_some_and(|t| t.contains(" s on ")),
        "{value}"
    );
}

/// What a handler writes into its errors ends up in the page as text.
#[test]
fn nothing_in_a_run_can_end_the_script_or_become_markup() {
    let mut found = caught("no-dedup");
    let nasty = "</script><script>faults.push('ran')</script><b id=bold>";
    for run in [&mut found.run, &mut found.small.run] {
        for line in &mut run.trace {
            line.detail.push_str(nasty);
        }
        run.anomalies[0].seen.push_str(nasty);
    }
    let page = found.page();
    let value = drive(
        &page,
        "return { bold: !!document.getElementById('bold'), panel: page.panel() };",
    );
    let Some(value) = value else { return };
    assert_eq!(value["bold"], false);
    assert!(
        value["panel"].as_str().is_some_and(|t| t.contains(nasty)),
        "{value}"
    );
}

#[test]
fn a_page_names_nothing_outside_of_itself() {
    let page = caught("no-dedup").page();
    for outside in ["src=", "href=", "url(", "@import", "https://"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The name of the format of drawings, which nobody fetches.
    let names = page.matches("http://").count();
    assert_eq!(names, page.matches("http://www.w3.org/2000/svg").count());
}
