//! A child process and its log.

use std::fs::{self, File};
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal,
    setrlimit,
};

use super::port::listens;
use super::wait::{TIMEOUT, eventually, slowdown, within};

/// A child process that is killed when this value is dropped, and whose output goes to a log file.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` and appends its output to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        Self::spawn(command.stdout(log_file(log)), log)
    }

    /// Starts `command` with standard output to a pipe, and appends its errors to the file `log`.
    /// The pipe has no reader, but stays open while the returned value lives.
    pub(crate) fn start_without_reader(command: &mut Command, log: &Path) -> (Self, PipeReader) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (Self::spawn(command.stdout(writer), log), reader)
    }

    fn spawn(command: &mut Command, log: &Path) -> Self {
        command.stdin(Stdio::null()).stderr(log_file(log));
        // SAFETY: between fork and exec only a system call is made, which is safe there.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // This process must not keep the write end of the pipe, which the child has inherited.
        command.stdout(Stdio::null());
        Self { child, log: log.to_owned() }
    }

    /// Returns the exit status of the process, or `None` while it runs.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the status of a child")
    }

    /// Ends the process with SIGTERM, waits for its end, and returns its status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        eventually("the process ends after SIGTERM", || self.status())
    }

    /// Ends the process at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        // The call fails if the process has ended already, which is the intended state.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process without a notice to its peers (SIGSTOP): its sockets stay open.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues a frozen process.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns whether the process listens on a port. Another process that has taken the port would
    /// answer there as well.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        listens(self.child.id(), port)
    }

    /// Returns the number of bytes of memory that the process has in use.
    pub(crate) fn resident_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the status of a child");
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = kibibytes.and_then(|text| text.trim().strip_suffix(" kB"));
        1024 * number.and_then(|text| text.parse::<u64>().ok()).expect("VmRSS in kB")
    }

    /// Returns the number of threads of the process.
    pub(crate) fn threads(&self) -> usize {
        let path = format!("/proc/{}/task", self.child.id());
        fs::read_dir(path).expect("the threads of a child").count()
    }

    /// Returns the number of open files and sockets of the process.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the files of a child").count()
    }

    fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("an id");
        kill_process(id, signal).expect("a signal to a child");
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        read_log(&self.log)
    }
}

/// Raises the limit of open files of this process to the highest value that the system allows.
pub(crate) fn raise_limit_of_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, raised).expect("as many files as are allowed");
}

impl Drop for Process {
    fn drop(&mut self) {
        if slowdown().is_some() && !thread::panicking() && self.status().is_none() {
            self.ask_to_end();
            within(TIMEOUT, || self.status());
        }
        self.kill();
    }
}

fn log_file(log: &Path) -> File {
    File::options().create(true).append(true).open(log).expect("a log file")
}

/// Returns the log so far, with replacement characters for bytes that are not UTF-8.
fn read_log(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// Returns the last lines of a log, for the message of a failure.
pub(crate) fn log_tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = read_log(log);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    format!("--- {}\n{}\n---", log.display(), tail.join("\n"))
}
