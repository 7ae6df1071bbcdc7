//! Commands of several requests, written at once.
//!
//! The task of a connection is woken by the first command, and runs before all other tasks that are
//! ready. Writing at once would cost a system call for each command, here and in Redis. So what is
//! to be written waits until these tasks have run, since most of them have a command to add. When
//! there are none, nothing is waited for. When they take long, the next command that is added ends
//! the wait.

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

use super::attention::Attention;

/// Longest turn of all other tasks, if the writer is woken at its end.
const LONGEST_TURN: Duration = Duration::from_millis(1);

/// A stream that is written to after other tasks have had their turn.
pub(super) struct Gathered<S> {
    stream: S,
    /// Begun with the first part of what is to be written, and kept until all of it is flushed.
    turn: Option<Arc<Turn>>,
    attention: Arc<Attention>,
}

/// The turn of all other tasks.
struct Turn {
    begin: Instant,
    is_over: AtomicBool,
    writer: Waker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.writer.wake_by_ref();
    }
}

impl<S> Gathered<S> {
    pub(super) fn new(stream: S, attention: Arc<Attention>) -> Self {
        Self { stream, turn: None, attention }
    }

    /// Waits until the turn of the others is over, whatever the task is woken for meanwhile.
    fn poll_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        let turn = self.turn.get_or_insert_with(|| {
            let writer = context.waker().clone();
            let (begin, is_over) = (Instant::now(), AtomicBool::new(false));
            let turn = Arc::new(Turn { begin, is_over, writer });
            let waker = Waker::from(Arc::clone(&turn));
            // The runtime remembers whom to wake, and needs no more of this.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            turn
        });
        let is_over = turn.is_over.load(Ordering::Acquire) || turn.begin.elapsed() >= LONGEST_TURN;
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_pending() && self.turn.is_none() {
            self.attention.note_rest(context.waker());
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.turn = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
