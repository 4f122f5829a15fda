//! `redeliver merge`: the shards of a gate as the one gate that they are.

mod read;
mod whole;

use std::path::PathBuf;

use self::read::{Output, discover};
use self::whole::Whole;
use super::ending::Ending;
use super::pages::Pages;
use super::{Context, ENVIRONMENT, Format, Out, USAGE, judge, out, today};
use redeliver_harness::report::json;
use redeliver_harness::scenario::Day;
use redeliver_harness::verdict::Verdict;

/// Put the shards of a gate together, with one verdict
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads what `redeliver gate --shard K/N --format json` wrote. What a scenario expects of all its seeds
together is judged here. A shard that is missing, was interrupted, is there twice or ran something
else than the others makes the whole inconclusive.

Examples:
  redeliver merge shard-*.ndjson
  redeliver merge shards/ --junit gate.xml --report report/

Exit codes: 0 valid, 1 violated, 2 usage, 3 inconclusive, 4 a file cannot be read or written.")]
pub(in crate::cli) struct Args {
    /// Files of shards, or directories of them (*.ndjson, however deep)
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The day by which known failures are judged: YYYY-MM-DD [default: today, in UTC]
    #[arg(long, value_name = "DAY", value_parser = Day::parse)]
    today: Option<Day>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Also show which fault has struck which stage of the pipeline how often
    #[arg(long)]
    reached: bool,
    /// Also write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write pages for a browser there: index.html, and those that the shards wrote
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Annotations and a step summary for GitHub Actions
    #[arg(long, env = "GITHUB_ACTIONS", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    github: bool,
}

pub(in crate::cli) fn merge(args: &Args, context: &Context) -> u8 {
    let (outputs, empty) = match read_all(&args.paths) {
        Ok(read) => read,
        Err((code, why)) => {
            out::complain(&why);
            return code;
        }
    };
    let mut whole = Whole::of(outputs);
    whole.gaps.extend(empty);
    let day = args.today.unwrap_or_else(today);
    whole.tallies.iter_mut().for_each(|tally| tally.excuse(day));
    for (tally, story) in whole.tallies.iter().zip(&mut whole.stories) {
        // What is excused by now is not told.
        story.take_if(|_| tally.verdict() != Verdict::Violated);
    }
    let judgement = judge(&whole.tallies, &whole.gaps, &whole.canaries);
    let ending = Ending {
        tallies: &whole.tallies,
        stories: &whole.stories,
        judgement: &judgement,
        canaries: &whole.canaries,
        wall: whole.wall,
        interrupted: !whole.gaps.is_empty(),
        program: &context.program,
    };
    let mut out = Out::default();
    if args.format == Format::Json {
        tell_machines(&whole, context, &mut out);
    }
    ending.tell(args.format, args.reached, &mut out);
    for gap in &whole.gaps {
        let text = format!("not the whole: {gap}");
        match args.format {
            Format::Human => out.line(&text),
            Format::Json => out::complain(&text),
        }
    }
    let pages = args.report.as_deref().map(|folder| {
        let mut pages = Pages::into(folder);
        for (tally, page) in whole.tallies.iter().zip(&whole.pages) {
            let stem = page.as_ref().and_then(|page| page.file_stem());
            let name = stem.map_or(tally.scenario.name.clone().into(), |s| s.to_string_lossy());
            pages.take(page.as_deref(), &name);
        }
        pages.finish(&ending)
    });
    ending.write(args.junit.as_deref(), pages, args.github)
}

/// All outputs, and the files without any: a shard that was killed at once leaves an empty one.
fn read_all(paths: &[PathBuf]) -> Result<(Vec<Output>, Vec<String>), (u8, String)> {
    let files = discover(paths).map_err(|why| (USAGE, why))?;
    let (mut outputs, mut gaps) = (Vec::new(), Vec::new());
    for path in &files {
        let name = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|why| (ENVIRONMENT, format!("{name}: {why}")))?;
        if text.trim().is_empty() {
            gaps.push(format!("{name} is empty"));
            continue;
        }
        outputs.push(Output::parse(path, &text).map_err(|why| (USAGE, why))?);
    }
    Ok((outputs, gaps))
}

fn tell_machines(whole: &Whole, context: &Context, out: &mut Out) {
    for tally in &whole.tallies {
        super::tell_machines(tally, context, out);
    }
    for gap in &whole.gaps {
        out.line(&json::gap(gap));
    }
}

#[cfg(test)]
mod tests;
