//! The pages of `docs/` say what the code does.

use std::path::Path;

use redeliver::harness::check::Kind;
use redeliver::harness::scenario::Scenario;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).expect(path)
}

/// The first `toml` example after a heading.
fn example(page: &str, kind: Kind) -> &str {
    let heading = format!("### `{}`\n", kind.as_str());
    let section = page.split_once(&heading).expect(&heading).1;
    let section = section.split("\n##").next().unwrap_or(section);
    let code = section.split_once("```toml\n").expect(&heading).1;
    code.split_once("```").expect(&heading).0
}

#[test]
fn every_kind_of_fault_is_shown_as_a_scenario_takes_it() {
    let page = read("docs/faults.md");
    assert_eq!(page.matches("\n### `").count(), Kind::ALL.len());
    let name = format!("redeliver-docs-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    for kind in Kind::ALL.iter().copied() {
        let head = "question = \"?\"\nworkload = \"orders\"\nmessages = 1\n";
        std::fs::write(&file, format!("{head}{}", example(&page, kind))).expect("a file");
        let scenario = match Scenario::load(&file, &["orders"]) {
            Ok(scenario) => scenario,
            Err(error) => panic!("{}: {error}", kind.as_str()),
        };
        let rules = scenario.rules.iter().map(|rule| rule.kind);
        let events = scenario.events.iter().map(|event| event.kind);
        assert!(rules.chain(events).any(|read| read == kind), "{kind:?}");
    }
    std::fs::remove_file(&file).expect("the file");
}

/// Links within the repository lead somewhere.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap_or("");
            let path = link.split('#').next().unwrap_or("");
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = page.parent().expect("a folder").join(path);
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
}

/// What the tutorial shows is what the example holds: built and run as an outsider's crate.
#[test]
fn the_tutorial_shows_the_example() {
    let files = ["src/lib.rs", "src/main.rs", "tests/charges_once.rs"];
    let code: String = files
        .iter()
        .map(|file| read(&format!("examples/checkout/{file}")))
        .collect();
    let page = read("docs/tutorial.md");
    let blocks: Vec<_> = page.split("```rust\n").skip(1).collect();
    assert!(blocks.len() >= 6);
    for block in blocks {
        let block = block.split("```").next().expect("a block ends");
        assert!(code.contains(block), "not in the example:\n{block}");
    }
    let tables = read("examples/checkout/migrations/0001_charges.sql");
    assert!(page.contains(&tables), "the tables differ");
}

/// The page of `redeliver size` shows keys that a scenario takes.
#[test]
fn what_size_is_asked_is_shown_as_a_scenario_takes_it() {
    let page = read("docs/size.md");
    let blocks: Vec<_> = page.split("```toml\n").skip(1).collect();
    let blocks = blocks.iter().map(|it| it.split("```").next().unwrap_or(""));
    // The queue is one of two kinds.
    let (delayed, managed): (Vec<&str>, Vec<&str>) =
        blocks.partition(|it| it.contains("[size.delayed-retry]"));
    let size = |blocks: &[&str]| {
        let head = "question = \"?\"\nworkload = \"orders\"\nmessages = 1\n\n";
        let text = format!("{head}{}", blocks.concat());
        match Scenario::parse(&text, Path::new("size.toml"), &["orders"]) {
            Ok(scenario) => scenario.size.expect("[size]"),
            Err(error) => panic!("{error}"),
        }
    };
    let all = size(&managed);
    assert_eq!((all.handler.len(), all.outages.len()), (2, 2));
    assert!(all.managed.is_some());
    assert!(size(&delayed).delayed_retry.is_some());
}
