//! The metrics of the process, which Linux writes in `/proc`. A file that cannot be read leaves its
//! metrics as they are, and other systems have none.

use std::fs;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

const CPU: &str = "process_cpu_seconds_total";
const OPEN_FILES: &str = "process_open_fds";
const MAX_OPEN_FILES: &str = "process_max_fds";
const VIRTUAL_MEMORY: &str = "process_virtual_memory_bytes";
const MAX_VIRTUAL_MEMORY: &str = "process_virtual_memory_max_bytes";
const RESIDENT_MEMORY: &str = "process_resident_memory_bytes";
const START_TIME: &str = "process_start_time_seconds";
const THREADS: &str = "process_threads";

/// Describes the metrics.
pub(super) fn describe() {
    describe_counter!(CPU, Unit::Seconds, "Total user and system CPU time spent in seconds.");
    describe_gauge!(OPEN_FILES, Unit::Count, "Number of open file descriptors.");
    describe_gauge!(MAX_OPEN_FILES, Unit::Count, "Maximum number of open file descriptors.");
    describe_gauge!(VIRTUAL_MEMORY, Unit::Bytes, "Virtual memory size in bytes.");
    describe_gauge!(
        MAX_VIRTUAL_MEMORY,
        Unit::Bytes,
        "Maximum amount of virtual memory available in bytes."
    );
    describe_gauge!(RESIDENT_MEMORY, Unit::Bytes, "Resident memory size in bytes.");
    describe_gauge!(
        START_TIME,
        Unit::Seconds,
        "Start time of the process since unix epoch in seconds."
    );
    describe_gauge!(THREADS, Unit::Count, "Number of OS threads in the process.");
}

/// Reads all metrics. The files can block.
pub(super) fn collect() {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(stat) = stat.as_deref().and_then(Stat::parse) {
        let ticks = clock_ticks_per_second().max(1);
        counter!(CPU).absolute(stat.cpu_ticks / ticks);
        set(VIRTUAL_MEMORY, Some(stat.virtual_bytes));
        set(RESIDENT_MEMORY, stat.resident_pages.checked_mul(page_size() as u64));
        set(THREADS, Some(stat.threads));
        let boot = fs::read_to_string("/proc/stat").ok();
        let boot = boot.as_deref().and_then(boot_seconds);
        set(START_TIME, boot.map(|boot| boot + stat.start_ticks / ticks));
    }
    let open = fs::read_dir("/proc/self/fd").ok();
    set(OPEN_FILES, open.map(|open| open.count() as u64));
    // 0 is no limit.
    set(MAX_OPEN_FILES, Some(getrlimit(Resource::Nofile).current.unwrap_or(0)));
    set(MAX_VIRTUAL_MEMORY, Some(getrlimit(Resource::As).current.unwrap_or(0)));
}

fn set(name: &'static str, value: Option<u64>) {
    if let Some(value) = value {
        gauge!(name).set(value as f64);
    }
}

/// Returns the time at which the system started, in seconds since the Unix epoch.
fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The numbers of a process, as `/proc/PID/stat` has them.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Processor time, of user and system.
    cpu_ticks: u64,
    threads: u64,
    /// The start, since the start of the system.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Parses the one line of the file (proc_pid_stat(5)). The name of the program, which is in
    /// parentheses, can have parentheses and spaces itself.
    fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(')')?;
        // The first field is the third of the line.
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: number(14)?.checked_add(number(15)?)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Stat, boot_seconds};

    #[test]
    fn the_line_of_a_process_is_read_whatever_its_name() {
        let rest = "S 1 2 2 0 -1 4194304 5 6 7 8 250 31 9 10 20 0 4 0 1234 56000000 789 18446744073709551615";
        let expected = Stat {
            cpu_ticks: 281,
            threads: 4,
            start_ticks: 1_234,
            virtual_bytes: 56_000_000,
            resident_pages: 789,
        };
        for name in ["gateway", "a b", "a) R 1 (b", ")"] {
            let line = format!("42 ({name}) {rest}\n");
            assert_eq!(Stat::parse(&line).as_ref(), Some(&expected), "{line}");
        }
        for line in ["", "42 (gateway)", "42 (gateway) S 1 2 2", "42 gateway S"] {
            assert_eq!(Stat::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_start_of_the_system_is_a_line_of_its_statistics() {
        assert_eq!(
            boot_seconds("cpu 1 2\nintr 3\nbtime 1700000000\nprocesses 4\n"),
            Some(1_700_000_000)
        );
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }
}
