//! The times of a load run as an interval log of HdrHistogram (version 1.3 of the log, histograms in
//! their V2 form): a histogram a second and leg, with the leg as its tag, in microseconds.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::check::CheckError;
use super::figures::Figures;
use crate::watch::file::{Record, Records};
use crate::watch::history::What;
use redeliver_core::topology::Topology;

const SECOND: u64 = 1_000_000_000;

/// Writes the log of the history at `path`.
///
/// # Errors
/// The history cannot be read, or the log not be written.
pub fn write(path: &Path, topology: &Topology, to: &mut impl Write) -> Result<(), CheckError> {
    let mut records = Records::open(path)?;
    let Some(Record::Start(start)) = records.next_record()? else {
        return Err(CheckError::Other(
            "it does not say what it is the history of".to_owned(),
        ));
    };
    let failed = |error: std::io::Error| CheckError::Other(format!("the interval log: {error}"));
    let began = UNIX_EPOCH + Duration::from_nanos(start.began.0);
    let (name, seed) = (start.scenario.clone(), start.seed);
    let mut figures = Figures::new(*start, topology);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .with_base_time(began)
        .with_start_time(began)
        // The longest of each interval stands in the log in milliseconds.
        .with_max_value_divisor(1_000.0)
        .add_comment(&format!("redeliver load {name}, seed {seed}, microseconds"))
        .begin_log_with(to, &mut serializer)
        .map_err(failed)?;
    let mut from = 0;
    let mut flush = |figures: &mut Figures, from: u64, until: u64| {
        for (leg, times) in figures.interval().legs() {
            let written = log.write_histogram(
                times.histogram(),
                Duration::from_nanos(from),
                Duration::from_nanos(until - from),
                Tag::new(leg.as_str()),
            );
            written.map_err(|error| CheckError::Other(format!("the interval log: {error:?}")))?;
        }
        Ok::<_, CheckError>(())
    };
    while let Some(record) = records.next_record()? {
        if let Record::Entry(entry) = &record
            && !matches!(entry.what, What::Process { .. })
            && entry.at >= from + SECOND
        {
            flush(&mut figures, from, from + SECOND)?;
            from = entry.at / SECOND * SECOND;
        }
        figures.add(&record);
    }
    flush(&mut figures, from, from + SECOND)
}
