//! One write to the socket for the commands of several requests.
//!
//! The runtime wakes the task of a connection at the first command, and runs it before the other
//! tasks that are ready. A write at that point would cost one system call for each command, here and
//! in Redis. So the write is batched:
//!
//! 1. The first poll to write begins a round: every other task that is ready runs once, and most of
//!    them add a command.
//! 2. The end of the round wakes the task, which writes all commands at once.
//! 3. A round that takes longer than [`LONGEST_ROUND`] ends at the next command.
//!
//! Where no other task is ready, the round ends at once.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::yield_now,
};

use super::driver_activity::DriverActivity;

/// Longest time for one round of the other tasks.
const LONGEST_ROUND: Duration = Duration::from_millis(1);

/// A stream that delays each write by one round of the other tasks.
pub(super) struct WriteBatching<S> {
    stream: S,
    /// Exists from the first poll to write until everything is flushed.
    round: Option<Arc<Round>>,
    activity: Arc<DriverActivity>,
}

/// One round of all other tasks that are ready.
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

impl<S> WriteBatching<S> {
    pub(super) fn new(stream: S, activity: Arc<DriverActivity>) -> Self {
        Self { stream, round: None, activity }
    }

    /// Is ready once the round is over, whatever wakes the task before.
    fn poll_round(&mut self, context: &Context<'_>) -> Poll<()> {
        let round = self.round.get_or_insert_with(|| {
            let writer = context.waker().clone();
            let (begin, is_over) = (Instant::now(), AtomicBool::new(false));
            let round = Arc::new(Round { begin, is_over, writer });
            let waker = Waker::from(Arc::clone(&round));
            // One poll makes the runtime store the waker, which it wakes after the other tasks.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            round
        });
        let is_over =
            round.is_over.load(Ordering::Acquire) || round.begin.elapsed() >= LONGEST_ROUND;
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteBatching<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_pending() && self.round.is_none() {
            self.activity.count_idle(context.waker());
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteBatching<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_round(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.round = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
