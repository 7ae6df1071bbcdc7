//! Timeouts for the clients of connections.
//!
//! A connection has the same phases for every request. The timeouts are for the client: for the first
//! byte of a request, for the rest of its head, and for reading the answer. The time until the answer
//! has no timeout here, and the code that reads or discards bodies has the timeout for bodies.
//!
//! ```text
//!   idle ──first byte──▶ head ──whole head──▶ answering ────────▶ answered ──write or read──▶ idle
//!                                                 └──▶ discarding ───▲
//! ```

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::telemetry::{self, SlowPart};

/// The timeouts for a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Until the first byte of a request.
    pub(super) idle: Duration,
    /// From the first byte until the end of the head.
    pub(super) head: Duration,
    /// Until the client reads the next part of an answer.
    pub(super) answer: Duration,
}

/// The phase of a connection. The service and the stream share it: both run in the task of the
/// connection, one at a time. The task that discards a body only ends its own phase of discarding.
#[derive(Debug, Clone)]
pub(super) struct Phase(Arc<SharedPhase>);

#[derive(Debug)]
struct SharedPhase {
    /// One of the phases below. Every number from [`DISCARDING`] on is a phase of discarding: the task of
    /// an earlier body can end while a later body is discarded, and must not end the later phase.
    phase: AtomicU32,
    /// The number of the next phase of discarding.
    next_discard: AtomicU32,
    /// The task whose read waits while a body is discarded.
    reader: Mutex<Option<Waker>>,
}

const ANSWERED: u32 = 0;
const IDLE: u32 = 1;
const HEAD: u32 = 2;
const ANSWERING: u32 = 3;
const DISCARDING: u32 = 4;

/// Ends the phase of discarding when it is dropped.
#[derive(Debug)]
pub(super) struct DiscardGuard {
    phase: Phase,
    number: u32,
}

impl Phase {
    /// Returns the phase of a new connection.
    pub(super) fn new() -> Self {
        let [phase, next_discard] = [ANSWERED, DISCARDING].map(AtomicU32::new);
        Self(Arc::new(SharedPhase { phase, next_discard, reader: Mutex::new(None) }))
    }

    /// Starts the phase of answering: a whole head has arrived.
    pub(super) fn begin_answer(&self) {
        self.set(ANSWERING);
    }

    /// Ends the phase of answering: the stream can send the answer.
    pub(super) fn end_answer(&self) {
        self.set(ANSWERED);
    }

    /// Starts a phase of discarding: the rest of the body is read before the next request. The phase ends
    /// with the guard. If the next request has already begun then, its phase stays.
    pub(super) fn begin_discard(&self) -> DiscardGuard {
        let next = &self.0.next_discard;
        // After the greatest number the counter begins again at 0, which is another phase.
        let number = next.fetch_add(1, Ordering::Relaxed).max(DISCARDING);
        self.set(number);
        DiscardGuard { phase: self.clone(), number }
    }

    /// Returns whether a body is being discarded, and then wakes the task at the end of this phase.
    fn is_discarding_until_woken(&self, context: &Context<'_>) -> bool {
        let is_discarding = || self.get() >= DISCARDING;
        if !is_discarding() {
            return false;
        }
        *self.reader() = Some(context.waker().clone());
        // The phase can have ended before the task was stored. The lock orders the two: the guard finds
        // the task, or this call finds the new phase.
        is_discarding()
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> u32 {
        self.0.phase.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u32) {
        self.0.phase.store(phase, Ordering::Relaxed);
    }
}

impl Drop for DiscardGuard {
    fn drop(&mut self) {
        let Self { phase, number } = self;
        let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let ended = phase.0.phase.compare_exchange(*number, ANSWERED, order, failure);
        if ended.is_ok()
            && let Some(reader) = phase.reader().take()
        {
            reader.wake();
        }
    }
}

/// A stream that fails when its client is too slow.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    timeouts: Timeouts,
    phase: Phase,
    /// The deadline for the next bytes of the client.
    read_deadline: Instant,
    /// The deadline for the client to read, while a write waits for the client.
    write_deadline: Option<Instant>,
    /// Timers that wake the task at a deadline. The first wait makes a timer and later waits reset it:
    /// most requests come in one piece and never wait.
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, timeouts: Timeouts, phase: Phase) -> Self {
        Self {
            stream,
            timeouts,
            phase,
            read_deadline: Instant::now() + timeouts.idle,
            write_deadline: None,
            read_timer: None,
            write_timer: None,
        }
    }

    /// Starts the idle phase after an answer, before a read.
    fn before_read(&mut self) {
        if self.phase.get() == ANSWERED {
            self.phase.set(IDLE);
            self.read_deadline = Instant::now() + self.timeouts.idle;
        }
    }

    /// Starts the phase of the head with its first bytes.
    fn after_read(&mut self) {
        if self.phase.get() == IDLE {
            self.phase.set(HEAD);
            self.read_deadline = Instant::now() + self.timeouts.head;
        }
    }

    /// Starts the idle phase when a part of an answer was sent. If a read has waited since before the
    /// answer, nothing reads again until the client sends bytes, so the timer is set here.
    fn after_write(&mut self, outcome: &Poll<io::Result<usize>>, context: &mut Context<'_>) {
        let is_answer = matches!(self.phase.get(), ANSWERED | IDLE);
        if !is_answer || !matches!(outcome, Poll::Ready(Ok(_))) {
            return;
        }
        self.phase.set(IDLE);
        self.read_deadline = Instant::now() + self.timeouts.idle;
        // A timer with an earlier deadline is reset when it fires. That costs less than a reset for
        // each answer.
        if self.read_timer.as_ref().is_none_or(|timer| timer.is_elapsed()) {
            let _ = wait(&mut self.read_timer, self.read_deadline, context);
        }
    }

    /// Waits until the client sends, at most until the deadline.
    fn wait_to_read(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.phase.is_discarding_until_woken(context) {
            return Poll::Pending;
        }
        // The phase of discarding can have ended since the read began.
        self.before_read();
        let slow = match self.phase.get() {
            IDLE => None,
            HEAD => Some(SlowPart::Head),
            _ => return Poll::Pending,
        };
        ready!(wait(&mut self.read_timer, self.read_deadline, context));
        Poll::Ready(timeout_error(slow))
    }

    /// Waits until the client reads, at most until the deadline.
    fn wait_to_write(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let latest = || Instant::now() + self.timeouts.answer;
        let deadline = *self.write_deadline.get_or_insert_with(latest);
        ready!(wait(&mut self.write_timer, deadline, context));
        Poll::Ready(timeout_error(Some(SlowPart::Answer)))
    }

    /// Returns the outcome of a write, or an error at its deadline.
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

/// Waits with a timer, which can have another deadline from before.
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

fn timeout_error(slow: Option<SlowPart>) -> io::Error {
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

    use super::{Phase, TimedStream, Timeouts};

    const TIMEOUTS: Timeouts = Timeouts {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(10),
        answer: Duration::from_secs(30),
    };

    fn pair() -> (DuplexStream, TimedStream<DuplexStream>, Phase) {
        let (client, stream) = duplex(16);
        let phase = Phase::new();
        (client, TimedStream::new(stream, TIMEOUTS, phase.clone()), phase)
    }

    /// Reads until the stream fails, and returns the seconds until then.
    async fn fails_after(stream: &mut TimedStream<DuplexStream>) -> u64 {
        let begin = Instant::now();
        let error = stream.read_to_end(&mut vec![]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        begin.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_has_the_idle_timeout() {
        let (_client, mut stream, phase) = pair();
        assert_eq!(fails_after(&mut stream).await, 75);

        // The same holds after each answer, also when the client was idle before.
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
    async fn the_idle_timeout_begins_with_the_answer_also_when_a_read_has_waited_before() {
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
    async fn the_idle_timeout_begins_when_a_body_is_discarded_also_when_a_read_has_waited_before() {
        let (mut client, mut stream, phase) = pair();
        client.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        phase.begin_answer();
        let discard = phase.begin_discard();
        tokio::spawn(async move {
            sleep(Duration::from_secs(8)).await;
            drop(discard);
        });
        assert_eq!(fails_after(&mut stream).await, 8 + 75);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_earlier_discard_does_not_end_a_later_one() {
        let (mut client, mut stream, phase) = pair();
        let earlier = phase.begin_discard();
        phase.begin_answer();
        let later = phase.begin_discard();
        drop(earlier);
        // These bytes are a body, and not the begin of a head.
        client.write_all(b"body").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        drop(later);
        assert_eq!(fails_after(&mut stream).await, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_do_not_extend_the_timeout_of_a_head() {
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
    async fn the_service_has_no_timeout() {
        let (mut client, mut stream, phase) = pair();
        client.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        phase.begin_answer();
        let read = tokio::time::timeout(Duration::from_secs(3600), stream.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_the_client_does_not_read_fails() {
        let (mut client, mut stream, _) = pair();
        let begin = Instant::now();
        tokio::spawn(async move {
            // The client reads parts of the answer, each just in time.
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
