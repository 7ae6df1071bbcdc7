//! Commands of several requests, written at once.
//!
//! The task of a connection is woken by the first command, and runs before all other tasks that are
//! ready. Writing at once would cost a system call for each command, here and in Redis. So what is
//! to be written waits until these tasks have run, since most of them have a command to add. When
//! there are none, nothing is waited for.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::yield_now,
};

/// A stream that is written to after other tasks have had their turn.
pub(super) struct Gathered<S> {
    stream: S,
    /// Begun with the first part of what is to be written, and kept until all of it is flushed.
    turn: Option<Arc<Turn>>,
}

/// The turn of all other tasks.
struct Turn {
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
    pub(super) fn new(stream: S) -> Self {
        Self { stream, turn: None }
    }

    /// Waits until the turn of the others is over, whatever the task is woken for meanwhile.
    fn poll_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        let turn = self.turn.get_or_insert_with(|| {
            let writer = context.waker().clone();
            let turn = Arc::new(Turn { is_over: AtomicBool::new(false), writer });
            let waker = Waker::from(Arc::clone(&turn));
            // The runtime remembers whom to wake, and needs no more of this.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            turn
        });
        if turn.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
