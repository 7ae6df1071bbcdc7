//! The shutdown of the process, and its signals.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::signal::unix::{SignalKind, signal};

/// The state of the shutdown. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// Returns true when the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A signal that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, from a program that manages processes.
    Terminate,
    /// SIGINT, from Ctrl-C.
    Interrupt,
}

/// The signals that the process receives and handles itself. SIGHUP only logs a line here: the
/// [watched files](crate::watched_files) receive it, too.
#[derive(Debug)]
pub struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to receive signals. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    pub fn receive() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal that ends the process.
    pub async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::Terminate,
                _ = self.interrupt.recv() => return Signal::Interrupt,
                _ = self.hangup.recv() => tracing::info!("SIGHUP: the watched files are read again"),
            }
        }
    }
}
