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

use super::wait::{TIMEOUT, eventually, slowdown, within};

/// A child that is killed when this is dropped, and whose output goes to a log file.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` and appends what it prints to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        Self::spawn(command.stdout(log_file(log)), log)
    }

    /// Starts `command`, appends its errors to the file `log`, and lets what it prints pile up in
    /// a pipe that nobody reads for as long as the result lives.
    pub(crate) fn start_unheard(command: &mut Command, log: &Path) -> (Self, PipeReader) {
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
        // The end of a pipe that the child has taken must not stay open here.
        command.stdout(Stdio::null());
        Self { child, log: log.to_owned() }
    }

    /// The status with which the process has ended, if it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the status of a child")
    }

    /// Asks the process to end (SIGTERM), waits until it has, and returns its status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        eventually("the process ends after SIGTERM", || self.status())
    }

    /// Ends the process at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        // An error says that the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process without a notice to anybody (SIGSTOP): its sockets stay open.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// The bytes of memory that the process has in use.
    pub(crate) fn resident_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the status of a child");
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = kibibytes.and_then(|text| text.trim().strip_suffix(" kB"));
        1024 * number.and_then(|text| text.parse::<u64>().ok()).expect("VmRSS in kB")
    }

    /// How many threads the process has.
    pub(crate) fn threads(&self) -> usize {
        let path = format!("/proc/{}/task", self.child.id());
        fs::read_dir(path).expect("the threads of a child").count()
    }

    /// How many files and sockets the process has open.
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

    /// Everything that was logged.
    pub(crate) fn log(&self) -> String {
        read_log(&self.log)
    }
}

/// Lets this process open as many files as the system allows.
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

/// The log so far, whatever bytes it holds.
fn read_log(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The last lines of a log, for a failure's message.
pub(crate) fn log_tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = read_log(log);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    format!("--- {}\n{}\n---", log.display(), tail.join("\n"))
}
