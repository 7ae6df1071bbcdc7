//! The task that writes and reads for all calls over one connection.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use redis::{RedisError, Value};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::has_budget_remaining,
};

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
        // The runtime ends a read that has used up the budget of the task, whatever is left to read.
        if is_written && has_budget_remaining() {
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

impl<S> Drop for Driver<S> {
    /// Ends the calls also where the driver ends without an error, so that none of them waits for
    /// ever.
    fn drop(&mut self) {
        self.shared.fail(&io::Error::from(ErrorKind::BrokenPipe).into());
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

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

    use redis::{RedisResult, Value, cmd};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::{JoinHandle, yield_now},
        time::timeout,
    };

    use super::Driver;
    use crate::redis::calls::Calls;

    /// The bytes that a connection holds: fewer than those of most calls.
    const BYTES: usize = 16;

    /// Returns the calls over a new connection, its driver, and the stream of its server.
    fn connect() -> (Calls, JoinHandle<()>, DuplexStream) {
        let (client, server) = duplex(BYTES);
        let calls = Calls::new();
        let driver = tokio::spawn(Driver::new(client, calls.shared()));
        (calls, driver, server)
    }

    /// Sends a pipeline of ECHO commands with these texts.
    async fn echo(calls: &Calls, texts: &[&str]) -> JoinHandle<RedisResult<Vec<Value>>> {
        let (calls, mut pipeline) = (calls.clone(), redis::pipe());
        for text in texts {
            pipeline.cmd("ECHO").arg(text);
        }
        let call = tokio::spawn(async move { calls.send_all(&pipeline).await });
        yield_now().await;
        call
    }

    /// Reads ECHO commands with these texts.
    async fn expect(server: &mut DuplexStream, texts: &[&str]) {
        let packed = |text: &&str| cmd("ECHO").arg(text).get_packed_command();
        let expected: Vec<u8> = texts.iter().flat_map(packed).collect();
        let mut received = vec![0; expected.len()];
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(received, expected);
    }

    fn integers(values: &[i64]) -> Vec<Value> {
        values.iter().copied().map(Value::Int).collect()
    }

    #[tokio::test]
    async fn each_call_has_its_own_answers_also_after_a_call_that_was_dropped() {
        let (calls, _driver, mut server) = connect();
        let first = echo(&calls, &["a"]).await;
        let dropped = echo(&calls, &["b", "c"]).await;
        let many = echo(&calls, &["d", "e"]).await;
        let late = echo(&calls, &["f"]).await;
        dropped.abort();
        expect(&mut server, &["a", "b", "c", "d", "e", "f"]).await;
        for piece in b":1\r\n:2\r\n>1\r\n+push\r\n:3\r\n:4\r\n:5\r\n:6\r\n".chunks(3) {
            server.write_all(piece).await.unwrap();
            yield_now().await;
        }
        assert_eq!(first.await.unwrap().unwrap(), integers(&[1]));
        assert_eq!(many.await.unwrap().unwrap(), integers(&[4, 5]));
        assert_eq!(late.await.unwrap().unwrap(), integers(&[6]));
        assert!(dropped.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn replies_are_read_while_commands_wait_to_be_written() {
        let (calls, _driver, mut server) = connect();
        let long = "x".repeat(100 * BYTES);
        let (first, second) = (echo(&calls, &["a"]).await, echo(&calls, &[&long]).await);
        expect(&mut server, &["a"]).await;
        server.write_all(b"$1\r\na\r\n").await.unwrap();
        assert_eq!(first.await.unwrap().unwrap(), [Value::BulkString(b"a".to_vec())]);
        expect(&mut server, &[&long]).await;
        server.write_all(b"-ERR no\r\n").await.unwrap();
        assert!(matches!(second.await.unwrap().unwrap()[..], [Value::ServerError(_)]));
    }

    #[tokio::test]
    async fn the_end_of_a_connection_ends_its_calls_but_those_that_have_their_answers() {
        let (calls, driver, mut server) = connect();
        let (answered, missing) = (echo(&calls, &["a"]).await, echo(&calls, &["b", "c"]).await);
        expect(&mut server, &["a", "b", "c"]).await;
        server.write_all(b":1\r\n:2\r\n").await.unwrap();
        drop(server);
        driver.await.unwrap();
        assert_eq!(answered.await.unwrap().unwrap(), integers(&[1]));
        assert!(missing.await.unwrap().unwrap_err().is_io_error());
        assert!(calls.send(&cmd("PING")).await.unwrap_err().is_io_error());
    }

    #[tokio::test]
    async fn a_driver_that_is_dropped_ends_its_calls() {
        let (calls, driver, _server) = connect();
        let call = echo(&calls, &["a"]).await;
        driver.abort();
        assert!(call.await.unwrap().unwrap_err().is_io_error());
    }

    #[tokio::test]
    async fn bytes_that_answer_no_call_end_the_connection() {
        for bytes in [&b":1\r\n"[..], b"HTTP/1.1\r\n", b"*1\r\n:x\r\n"] {
            let (calls, driver, mut server) = connect();
            server.write_all(bytes).await.unwrap();
            driver.await.unwrap();
            let error = calls.send(&cmd("PING")).await.unwrap_err();
            assert_eq!(error.kind(), redis::ErrorKind::Parse);
        }
    }

    #[tokio::test]
    async fn a_driver_that_leaves_replies_for_its_next_poll_is_not_idle() {
        const REPLY: &[u8] = b">1\r\n+push\r\n";
        let (client, mut server) = duplex(4 * 1024 * 1024);
        let calls = Calls::new();
        let mut driver = Driver::new(client, calls.shared());
        server.write_all(&REPLY.repeat(2 * 1024 * 1024 / REPLY.len())).await.unwrap();
        let mut was_idle = calls.watch();
        let mut polls_until_idle = 0;
        loop {
            // Each poll has a budget of its own.
            yield_now().await;
            let poll = poll_fn(|context| Poll::Ready(Pin::new(&mut driver).poll(context))).await;
            assert!(poll.is_pending());
            polls_until_idle += 1;
            if was_idle() {
                break;
            }
        }
        assert!(polls_until_idle > 1, "2 MiB take more than one budget of reads");
        assert_eq!(driver.input.received, 0);
        let read_again = timeout(Duration::ZERO, driver.stream.read_u8()).await;
        assert!(read_again.is_err(), "nothing is left to read");
    }

    #[tokio::test]
    async fn a_driver_is_idle_while_a_server_is_silent() {
        let (calls, _driver, mut server) = connect();
        yield_now().await;
        let mut was_idle = calls.watch();
        let _call = echo(&calls, &["a"]).await;
        assert!(!was_idle(), "nothing is written");
        expect(&mut server, &["a"]).await;
        yield_now().await;
        was_idle();
        yield_now().await;
        assert!(was_idle());
    }
}
