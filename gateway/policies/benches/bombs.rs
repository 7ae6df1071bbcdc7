//! The time and the memory that the refusal of a file takes which would cost too much.

#![allow(clippy::unwrap_used, reason = "a bench that meets what it does not expect has to fail")]

#[path = "../tests/bombs/mod.rs"]
mod bombs;

use std::fs;
use std::time::{Duration, Instant};

use policies::{LoadOptions, Policies};

use bombs::{Bomb, bombs};

/// Loads of each file, of which the least time counts: other processes make a load longer.
const ROUNDS: usize = 5;

fn main() {
    for Bomb { name, file, refusal } in bombs() {
        let (before, mut time, mut peak) = (kibibytes("VmRSS"), Duration::MAX, 0);
        for _ in 0..ROUNDS {
            // Makes the present size the peak.
            fs::write("/proc/self/clear_refs", "5").unwrap();
            let start = Instant::now();
            let message = refuse(&file);
            time = time.min(start.elapsed());
            peak = peak.max(kibibytes("VmHWM"));
            assert_eq!(message, refusal);
        }
        let (length, more) = (file.len() / 1_024, peak.saturating_sub(before));
        println!("{name}, {length} KiB: {:.1} ms, {more} KiB more", 1_000.0 * time.as_secs_f64());
    }
}

/// Returns the message about a file.
fn refuse(file: &str) -> String {
    let now = limiter::Instant::from_micros(1_800_000_000_000_000);
    let options =
        LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now };
    Policies::load(file.as_bytes(), &options).unwrap_err().to_string()
}

/// Returns a size of this process.
fn kibibytes(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
}
