//! One write to the socket for the commands of several requests.
//!
//! The runtime wakes the driver of a connection at the first command, and runs it before the other
//! tasks that are ready. A write at that point would cost one system call for each command, here and
//! in Redis. So the write is delayed:
//!
//! 1. The first poll begins a round: every other task that is ready runs once, and most of them add a
//!    command.
//! 2. The end of the round wakes the driver, which writes all commands at once.
//! 3. A round that takes longer than [`LONGEST_ROUND`] ends when the driver is woken next: by a reply, or
//!    by a call whose answer is late.
//!
//! Where no other task is ready, the round ends at once.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use tokio::task::yield_now;

/// Longest time for one round of the other tasks.
const LONGEST_ROUND: Duration = Duration::from_millis(1);

/// Delays each write by one round of the other tasks.
#[derive(Debug, Default)]
pub(super) struct WriteRound {
    /// Exists from the first poll until everything is flushed.
    round: Option<Arc<Round>>,
}

/// One round of all other tasks that are ready.
#[derive(Debug)]
struct Round {
    begin: Instant,
    is_over: AtomicBool,
    writer: Waker,
}

impl Wake for Round {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.writer.wake_by_ref();
    }
}

impl WriteRound {
    /// Is ready once the round is over, whatever wakes the task before.
    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(round) = &self.round else {
            let writer = context.waker().clone();
            let (begin, is_over) = (Instant::now(), AtomicBool::new(false));
            let round = Arc::new(Round { begin, is_over, writer });
            let waker = Waker::from(Arc::clone(&round));
            // One poll makes the runtime store the waker, which it wakes after the other tasks.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            self.round = Some(round);
            return Poll::Pending;
        };
        let is_over =
            round.is_over.load(Ordering::Acquire) || round.begin.elapsed() >= LONGEST_ROUND;
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the round: everything is flushed.
    pub(super) fn end(&mut self) {
        self.round = None;
    }
}
