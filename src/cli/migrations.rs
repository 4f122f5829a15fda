//! `redeliver migrations`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::out::{self, Out};
use super::{Context, Format, USAGE};
use redeliver_harness::scenario::ScenarioError;
use redeliver_postgres::{Migration, OutboxMapping, PgOptions, migrations as steps};

/// Print the SQL that the pipeline needs in a database
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each step is a transaction of its own. PgStore::migrate applies the same, and knows what of it was
applied by hand.

Examples:
  redeliver migrations > redeliver.sql           all of it, for a review
  redeliver migrations | psql -v ON_ERROR_STOP=1 shop
  redeliver migrations --from 2                  what came after version 1
  redeliver migrations --outbox outbox.toml      with a table of yours in the outbox's place")]
pub(super) struct Args {
    /// Schema of the tables [default: the workload's, or redeliver]
    #[arg(long)]
    schema: Option<String>,
    /// As this workload says it, schema and outbox; needed where several do
    #[arg(long)]
    workload: Option<String>,
    /// A file that maps an outbox that exists already: table, event-type, key, payload, …
    #[arg(long, value_name = "FILE")]
    outbox: Option<PathBuf>,
    /// Only from this version on
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    from: i32,
    /// How to print them
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

pub(super) fn migrations(args: &Args, context: &Context) -> u8 {
    let options = match options(args, context) {
        Ok(options) => options,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    let mut steps = match steps(&options) {
        Ok(steps) => steps,
        Err(error) => {
            out::complain(&error.to_string());
            return USAGE;
        }
    };
    steps.retain(|step| step.version.is_none_or(|version| version >= args.from));
    let out = &mut Out::default();
    for step in &steps {
        match args.format {
            Format::Human => out.text(&script(step)),
            Format::Json => out.line(
                &json!({"version": step.version, "name": step.name, "sql": step.sql}).to_string(),
            ),
        }
    }
    0
}

/// A step as a script.
fn script(step: &Migration) -> String {
    let number = step.version.map_or(String::new(), |n| format!("{n}: "));
    // What waits for a lock on a table in use makes everybody after it wait, too.
    let patience = match step.version {
        Some(_) => "",
        None => "set local lock_timeout = '5s';\n",
    };
    format!(
        "-- {number}{}\nbegin;\n{patience}{}commit;\n\n",
        step.name, step.sql
    )
}

fn options(args: &Args, context: &Context) -> Result<PgOptions, String> {
    let mut options = said_by_workload(args, context)?;
    if let Some(schema) = &args.schema {
        options.schema.clone_from(schema);
    }
    if let Some(path) = &args.outbox {
        options.outbox = Some(read(path)?);
    }
    Ok(options)
}

/// What the workload says of its database, where one is meant.
fn said_by_workload(args: &Args, context: &Context) -> Result<PgOptions, String> {
    let said = context.workloads.iter().filter_map(|workload| {
        let postgres = (workload.postgres)()?;
        Some((workload.name, postgres.pipeline().clone()))
    });
    let mut said: Vec<_> = said.collect();
    if let Some(name) = &args.workload {
        if !context.workloads.iter().any(|known| known.name == name) {
            let names: Vec<_> = context.workloads.iter().map(|known| known.name).collect();
            return Err(format!(
                "there is no workload {name}; there are: {}",
                names.join(", ")
            ));
        }
        said.retain(|(known, _)| known == name);
    }
    let first = said.first().map(|(_, options)| options.clone());
    let first = first.unwrap_or_default();
    let same = |(_, options): &(_, PgOptions)| {
        (&options.schema, &options.outbox) == (&first.schema, &first.outbox)
    };
    if said.iter().all(same) {
        return Ok(first);
    }
    let names: Vec<_> = said.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "the workloads {} have different databases: say which with --workload",
        names.join(", ")
    ))
}

fn read(path: &Path) -> Result<OutboxMapping, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let coloured = out::is_coloured(&std::io::stderr());
        ScenarioError::of_toml(path, &text, &error).render(80, coloured)
    })
}
