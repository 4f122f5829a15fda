//! A real browser without a window: it opens a page from disk, carries out a script in it, and
//! hands back what the script has found.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

const NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// The program: that of `REDELIVER_BROWSER`, or the first that is installed.
///
/// Without one the calling test is left out, loudly; with `REDELIVER_REQUIRE_BROWSER=1` it fails.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("REDELIVER_BROWSER") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |f| f.join(name)));
    let found = all.into_iter().find(|file| file.is_file());
    if found.is_some() {
        return found;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var("REDELIVER_REQUIRE_BROWSER").as_deref() != Ok("1"),
        "no browser is installed, and REDELIVER_REQUIRE_BROWSER=1 says that one must be"
    );
    // Not eprintln!: the test harness would swallow it.
    let line = format!("LEFT OUT, NOT TESTED: {test} (NO CHROMIUM IS INSTALLED)\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr can be written");
    None
}

/// Opens a page and carries out `script`, an async function body that gets `page` (see `drive.js`)
/// and returns what is to be known. None where there is no browser.
///
/// # Panics
/// Where the page has thrown, or has asked for anything from outside of itself.
pub(crate) fn drive(page: &str, script: &str) -> Option<Value> {
    let program = program()?;
    let folder = std::env::temp_dir().join(format!("redeliver-page-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("page.html");
    // Before everything else, so that no error is missed.
    let watch = "<script>window.faults = [];\
        addEventListener('error', (e) => faults.push(String(e.message)));\
        addEventListener('unhandledrejection', (e) => faults.push(String(e.reason)));\
        addEventListener('securitypolicyviolation', (e) => faults.push('policy: ' + e.blockedURI));\
        </script>";
    let drive = include_str!("drive.js").replace("/* SCRIPT */", script);
    let page =
        page.replacen("<head>", &format!("<head>{watch}"), 1) + "<script>" + &drive + "</script>";
    std::fs::write(&file, page).expect("a page on disk");
    let output = Command::new(program)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
        ])
        .args(["--window-size=1280,900", "--virtual-time-budget=60000"])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = std::fs::remove_dir_all(&folder);
    let begin = dom.find("RESULT[[").map(|at| at + "RESULT[[".len());
    let begin = begin.unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!(
            "the script came to no end: {said}\n{}",
            &dom[dom.len().saturating_sub(2_000)..]
        )
    });
    let end = begin + dom[begin..].find("]]END").expect("an end");
    let text = dom[begin..end]
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let result: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        result["faults"],
        serde_json::json!([]),
        "the page has failed"
    );
    assert_eq!(
        result["loaded"], 0,
        "the page has asked for something from outside"
    );
    Some(result["value"].clone())
}
