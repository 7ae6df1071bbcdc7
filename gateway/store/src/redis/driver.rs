//! The task that writes and reads for all calls over one connection.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use redis::{RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    calls::Shared,
    reply::{self, ReplyScanner},
    write_round::WriteRound,
};

/// The free bytes of the buffer before a read.
const READ_BYTES: usize = 8 * 1024;

/// The capacity that an empty buffer keeps.
const KEPT_BYTES: usize = 64 * 1024;

/// Writes the commands of calls, and gives them the replies. Ends with its connection.
#[derive(Debug)]
pub(super) struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    round: WriteRound,
    /// The commands that are written, and the number of bytes that were.
    output: Vec<u8>,
    written: usize,
    /// True from a write until everything is flushed.
    is_flushing: bool,
    input: Input,
    /// The replies of one read.
    replies: Vec<Value>,
}

/// The received bytes that are no whole reply yet.
#[derive(Debug, Default)]
struct Input {
    /// Received bytes, then room for more.
    bytes: Vec<u8>,
    received: usize,
    scanner: ReplyScanner,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Returns the driver of a connection.
    pub(super) fn new(stream: S, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            shared,
            round: WriteRound::default(),
            output: Vec::new(),
            written: 0,
            is_flushing: false,
            input: Input::default(),
            replies: Vec::new(),
        }
    }

    /// Writes and reads what is possible now. Reads also while a write waits: the server may wait for
    /// its replies to be read.
    fn poll_both(&mut self, context: &mut Context<'_>) -> Result<(), RedisError> {
        let is_written = self.poll_write(context)?.is_ready();
        self.poll_read(context)?;
        if is_written {
            self.shared.count_idle();
        }
        Ok(())
    }

    /// Writes until there are no commands.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, io::Error> {
        loop {
            if self.written == self.output.len() {
                self.output.clear();
                self.output.shrink_to(KEPT_BYTES);
                self.written = 0;
                let round = &mut self.round;
                let may_write = || round.poll(context).is_ready();
                let waker = context.waker();
                let has_output = self.shared.take_output(waker, &mut self.output, may_write);
                if self.output.is_empty() {
                    if has_output {
                        return Ok(Poll::Pending);
                    }
                    return self.poll_flush(context);
                }
            }
            let rest = &self.output[self.written..];
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.is_flushing = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, io::Error> {
        if self.is_flushing {
            match Pin::new(&mut self.stream).poll_flush(context)? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(()) => {
                    self.is_flushing = false;
                    self.round.end();
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Reads until nothing is left to read.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<(), RedisError> {
        while let Poll::Ready(count) = self.input.poll_fill(&mut self.stream, context)? {
            if count == 0 {
                return Err(io::Error::from(ErrorKind::BrokenPipe).into());
            }
            self.input.take_replies(&mut self.replies)?;
            if !self.shared.answer(&mut self.replies) {
                return Err(malformed());
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.poll_both(context) {
            Ok(()) => Poll::Pending,
            Err(error) => {
                self.shared.fail(&error);
                Poll::Ready(())
            }
        }
    }
}

impl Input {
    /// Reads once. Returns the number of bytes, which is 0 at the end of the connection.
    fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() - self.received < READ_BYTES {
            self.bytes.resize(self.received + READ_BYTES, 0);
        }
        let mut buffer = ReadBuf::new(&mut self.bytes[self.received..]);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        self.received += count;
        Poll::Ready(Ok(count))
    }

    /// Moves the whole replies out of the buffer. Nothing waits for a message that the server pushes.
    fn take_replies(&mut self, replies: &mut Vec<Value>) -> Result<(), RedisError> {
        let mut begin = 0;
        loop {
            let bytes = &self.bytes[begin..self.received];
            let Some(length) = self.scanner.length(bytes).map_err(|_| malformed())? else { break };
            let reply = &bytes[..length];
            if !reply.starts_with(b">") {
                replies.push(reply::value(reply)?);
            }
            begin += length;
        }
        self.bytes.copy_within(begin..self.received, 0);
        self.received -= begin;
        if self.received == 0 && self.bytes.len() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        Ok(())
    }
}

/// Returns the error of bytes that are no reply, or the reply to no command.
fn malformed() -> RedisError {
    let detail = "the server sends what is no reply";
    (redis::ErrorKind::Parse, detail).into()
}
