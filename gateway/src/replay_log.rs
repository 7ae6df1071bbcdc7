//! The command `replay`: decides the requests of a log by policies.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use limiter::Instant;
use policies::{LoadOptions, Policies, digest::HashKey};
use replay::{Replay, Side};
use store::local_file;

use crate::startup_error::StartupError;

/// The key of digests when the operator gives none: a log that has no digests can be replayed
/// everywhere, and only the keys of the report differ from those in Redis.
const PLACEHOLDER: &[u8] = b"the key of a replay";

/// The lines between two reports of progress.
const PROGRESS_LINES: u64 = 20_000;

/// A log, and the policies that decide its requests.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ReplayWords {
    /// The file of policies
    file: PathBuf,

    /// A log in the combined format or with a JSON object in each line; - reads the input
    log: PathBuf,

    /// Compare with the decisions of another file of policies
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,

    /// Print JSON in place of a table
    #[arg(long, conflicts_with = "html")]
    json: bool,

    /// Print a page of HTML in place of a table
    #[arg(long)]
    html: bool,
}

/// Returns the report about a log. `hash_key` is the key of the digests of the service, if it is known.
///
/// # Errors
///
/// A file that cannot be read, and the faults of policies.
pub fn run(words: &ReplayWords, hash_key: Option<&HashKey>) -> Result<String, StartupError> {
    let side = |path: &Path| side(path, hash_key);
    let new = side(&words.file)?;
    let old = words.against.as_deref().map(side).transpose()?;
    let mut replay = Replay::new(&new, old.as_ref());
    read(&words.log, &mut replay).map_err(|error| about(&words.log, error))?;
    let report = replay.finish();
    match (words.json, words.html) {
        (true, _) => report
            .to_json()
            .map(|json| json + "\n")
            .map_err(|error| StartupError::about("replay", error)),
        (false, true) => Ok(report.to_html()),
        (false, false) => Ok(report.to_string()),
    }
}

fn about(path: &Path, error: impl std::fmt::Display) -> StartupError {
    StartupError::about(&path.display().to_string(), error)
}

fn side(path: &Path, hash_key: Option<&HashKey>) -> Result<Side, StartupError> {
    let file = local_file::read(path).map_err(|error| about(path, error))?;
    let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
    let options = LoadOptions {
        key_prefix: String::new(),
        hash_key: hash_key.cloned().or_else(|| HashKey::new(PLACEHOLDER)),
        require_end: false,
        now: Instant::from_micros(now),
    };
    let policies = Policies::load(&file, &options).map_err(|error| about(path, error))?;
    Ok(Side::new(policies, hash_key.cloned()))
}

/// Adds all lines of a log, and shows the progress on a terminal.
fn read(path: &Path, replay: &mut Replay<'_>) -> io::Result<()> {
    let (log, length): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        (Box::new(file), Some(length))
    };
    let mut log = BufReader::with_capacity(1 << 16, log);
    let length = length.filter(|length| *length > 0 && io::stderr().is_terminal());
    let (mut line, mut lines, mut bytes) = (Vec::new(), 0_u64, 0_u64);
    loop {
        line.clear();
        let read = log.read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        replay.add(&line);
        lines += 1;
        bytes += read as u64;
        if let Some(length) = length
            && lines.is_multiple_of(PROGRESS_LINES)
        {
            show(bytes.min(length), length)?;
        }
    }
    // The line of the progress becomes empty.
    if length.is_some() { write!(io::stderr(), "\r{:60}\r", "") } else { Ok(()) }
}

/// Shows the read part of a log as a bar.
fn show(bytes: u64, length: u64) -> io::Result<()> {
    const WIDTH: u64 = 40;
    let full = usize::try_from(bytes.saturating_mul(WIDTH) / length).unwrap_or_default();
    let percent = bytes.saturating_mul(100) / length;
    write!(io::stderr(), "\r[{:<40}] {percent:>3}%", "#".repeat(full))
}
