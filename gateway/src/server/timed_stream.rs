//! How long a client may keep a connection waiting.
//!
//! A connection goes through the same phases for every request. What is timed is the client: how
//! long it is silent, how long the head of its request takes, and how long its answer waits to be
//! taken. The time of an answer is the service's own, and that of a body is bounded where bodies
//! are read, or discarded after their answer.
//!
//! ```text
//!   idle ──first byte──▶ head ──whole head──▶ answering ────────▶ answered ──write or read──▶ idle
//!                                                 └──▶ discarding ───▲
//! ```

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::telemetry::{self, Slow};

/// The longest waits for a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the first byte of a request.
    pub(super) idle: Duration,
    /// For the rest of its head.
    pub(super) head: Duration,
    /// For the next part of an answer to be taken.
    pub(super) answer: Duration,
}

/// Where a connection is with its current request. The service and the stream share it, which run
/// in the task of the connection, one at a time; a task that discards a body ends that phase only.
#[derive(Debug, Clone)]
pub(super) struct Phase(Arc<AtomicU8>);

const ANSWERED: u8 = 0;
const IDLE: u8 = 1;
const HEAD: u8 = 2;
const ANSWERING: u8 = 3;
const DISCARDING: u8 = 4;

impl Phase {
    /// That of a new connection.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(ANSWERED)))
    }

    /// A whole head has arrived.
    pub(super) fn begin_answer(&self) {
        self.set(ANSWERING);
    }

    /// The answer is known, and only remains to be sent.
    pub(super) fn end_answer(&self) {
        self.set(ANSWERED);
    }

    /// The answer is known, and the rest of the body is read before the next request.
    pub(super) fn begin_discard(&self) {
        self.set(DISCARDING);
    }

    /// The body has been read. The next request can have begun meanwhile, and its phase is kept.
    pub(super) fn end_discard(&self) {
        let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.0.compare_exchange(DISCARDING, ANSWERED, order, failure);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

/// A stream that fails when its client takes longer than it may.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    patience: Patience,
    phase: Phase,
    /// When the client must have sent what it is to send next.
    read_deadline: Instant,
    /// Set for as long as a write waits for the client.
    write_deadline: Option<Instant>,
    /// Wakes the task at a deadline. Made at the first wait and moved for later ones, since most
    /// requests come in one piece and never wait.
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, patience: Patience, phase: Phase) -> Self {
        Self {
            stream,
            patience,
            phase,
            read_deadline: Instant::now() + patience.idle,
            write_deadline: None,
            read_timer: None,
            write_timer: None,
        }
    }

    /// Notes what a wait for the client, if one has to begin now, is for.
    fn before_read(&mut self) {
        if self.phase.get() == ANSWERED {
            self.phase.set(IDLE);
            self.read_deadline = Instant::now() + self.patience.idle;
        }
    }

    /// Notes that bytes have come.
    fn after_read(&mut self) {
        if self.phase.get() == IDLE {
            self.phase.set(HEAD);
            self.read_deadline = Instant::now() + self.patience.head;
        }
    }

    /// Notes that a part of an answer has gone out: its client is idle from then on, not before.
    /// Nothing may read again until the client sends something, when a read has waited since before
    /// the answer was known, so that the timer is set here.
    fn after_write(&mut self, outcome: &Poll<io::Result<usize>>, context: &mut Context<'_>) {
        let is_answer = matches!(self.phase.get(), ANSWERED | IDLE);
        if !is_answer || !matches!(outcome, Poll::Ready(Ok(_))) {
            return;
        }
        self.phase.set(IDLE);
        self.read_deadline = Instant::now() + self.patience.idle;
        // One that is set for an earlier time is moved when it goes off, which costs less than to
        // move it for each answer.
        if self.read_timer.as_ref().is_none_or(|timer| timer.is_elapsed()) {
            let _ = wait(&mut self.read_timer, self.read_deadline, context);
        }
    }

    /// Waits for the client to send, but not beyond the deadline.
    fn wait_to_read(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let slow = match self.phase.get() {
            IDLE => None,
            HEAD => Some(Slow::Head),
            _ => return Poll::Pending,
        };
        ready!(wait(&mut self.read_timer, self.read_deadline, context));
        Poll::Ready(give_up(slow))
    }

    /// Waits for the client to take what was written, but not beyond the deadline.
    fn wait_to_write(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let latest = || Instant::now() + self.patience.answer;
        let deadline = *self.write_deadline.get_or_insert_with(latest);
        ready!(wait(&mut self.write_timer, deadline, context));
        Poll::Ready(give_up(Some(Slow::Answer)))
    }

    /// The outcome of a write, unless it would wait for too long.
    fn timed<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_deadline = None;
            return outcome;
        }
        self.wait_to_write(context).map(Err)
    }
}

/// Waits with a timer that may still be set for another deadline.
fn wait(
    timer: &mut Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if timer.deadline() != deadline {
        timer.as_mut().reset(deadline);
    }
    timer.as_mut().poll(context)
}

fn give_up(slow: Option<Slow>) -> io::Error {
    if let Some(slow) = slow {
        telemetry::count_slow_connection(slow);
    }
    io::ErrorKind::TimedOut.into()
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.before_read();
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(outcome) => {
                if buffer.filled().len() > before {
                    self.after_read();
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => self.wait_to_read(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after_write(&outcome, context);
        self.timed(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.after_write(&outcome, context);
        self.timed(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(outcome, context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io, time::Duration};

    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
        time::{Instant, sleep},
    };

    use super::{Patience, Phase, TimedStream};

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(10),
        answer: Duration::from_secs(30),
    };

    fn pair() -> (DuplexStream, TimedStream<DuplexStream>, Phase) {
        let (client, stream) = duplex(16);
        let phase = Phase::new();
        (client, TimedStream::new(stream, PATIENCE, phase.clone()), phase)
    }

    /// Reads until the stream fails, and returns after how many seconds it did.
    async fn fails_after(stream: &mut TimedStream<DuplexStream>) -> u64 {
        let begin = Instant::now();
        let error = stream.read_to_end(&mut vec![]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        begin.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_has_the_idle_time() {
        let (_client, mut stream, phase) = pair();
        assert_eq!(fails_after(&mut stream).await, 75);

        // And again after each answer, however long it was idle before.
        let (mut client, mut stream, _) = pair();
        drop(phase);
        sleep(Duration::from_secs(60)).await;
        client.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.phase.begin_answer();
        stream.phase.end_answer();
        assert_eq!(fails_after(&mut stream).await, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_idle_after_its_answer_although_a_read_has_waited_since_before() {
        let (mut client, mut stream, phase) = pair();
        client.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        phase.begin_answer();
        let begin = Instant::now();
        let mut is_answered = false;
        let (mut read, mut bytes) = (Box::pin(stream), [0; 4]);
        let outcome = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut bytes);
            let outcome = read.as_mut().poll_read(context, &mut buffer);
            if !is_answered {
                assert!(outcome.is_pending());
                phase.end_answer();
                is_answered = true;
                assert!(read.as_mut().poll_write(context, b"answer").is_ready());
            }
            outcome
        });
        assert_eq!(outcome.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_do_not_extend_the_time_of_a_head() {
        let (mut client, mut stream, _) = pair();
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(3)).await;
                if client.write_all(b"x").await.is_err() {
                    break;
                }
            }
        });
        assert_eq!(fails_after(&mut stream).await, 3 + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_has_any_time() {
        let (mut client, mut stream, phase) = pair();
        client.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        phase.begin_answer();
        let read = tokio::time::timeout(Duration::from_secs(3600), stream.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_given_up() {
        let (mut client, mut stream, _) = pair();
        let begin = Instant::now();
        tokio::spawn(async move {
            // Some of it is taken, late but in time.
            for _ in 0..3 {
                sleep(Duration::from_secs(20)).await;
                client.read_exact(&mut [0; 16]).await.unwrap();
            }
            sleep(Duration::from_secs(3600)).await;
        });
        let error = stream.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 60 + 30);
    }
}
