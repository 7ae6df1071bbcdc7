//! Calls over one connection, which many requests share.
//!
//! A call appends its commands to those that wait to be written, and wakes the driver. The driver is
//! the task that writes and reads: it answers the calls in the order of their commands. A call needs
//! no channel and no buffer of its own, and a lock protects everything: the threads that use one
//! connection are few.
//!
//! A call that is dropped before its answer leaves its place in the order, so that the next call gets
//! no answer that is not its own.

use std::{
    collections::VecDeque,
    fmt, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use slab::Slab;

/// The calls over one connection. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Calls(Arc<Shared>);

/// The part that calls and their driver share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Times at which everything was written and nothing was left to read.
    idle_count: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// The commands that wait to be written.
    output: Vec<u8>,
    /// The calls without all of their answers, by place.
    waiting: Slab<Waiting>,
    /// The places in the order of the commands.
    order: VecDeque<usize>,
    /// Wakes the driver.
    driver: Option<Waker>,
    /// The reason why the connection has ended.
    failure: Option<RedisError>,
}

/// A call that waits for answers.
#[derive(Debug)]
struct Waiting {
    /// Answers that have not arrived.
    missing: usize,
    answers: Answers,
    /// Wakes the call; `None` if the call was dropped.
    caller: Option<Waker>,
}

/// The answers to the commands of a call.
#[derive(Debug)]
enum Answers {
    /// The answer to one command.
    One(Option<Value>),
    /// The answers to the commands of a pipeline.
    Many(Vec<Value>),
}

/// A call that is sent by its first poll.
struct Call<'c, W> {
    calls: &'c Calls,
    /// Appends the commands to the output. `None` once they are sent.
    write: Option<W>,
    commands: usize,
    place: Option<usize>,
}

impl Calls {
    /// Returns the calls over a new connection.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Returns the part for the driver.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    /// Sends a command. The answer can be an error of the server.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let write = |output: &mut Vec<u8>| command.write_packed_command(output);
        match self.call(1, write).await? {
            Answers::One(Some(answer)) => Ok(answer),
            Answers::One(None) | Answers::Many(_) => Err(missing_answer()),
        }
    }

    /// Sends commands together. Answers in their order; each can be an error of the server.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub(super) async fn send_all(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        if pipeline.is_empty() {
            return Ok(vec![]);
        }
        let write = |output: &mut Vec<u8>| {
            for command in pipeline.cmd_iter() {
                command.write_packed_command(output);
            }
        };
        match self.call(pipeline.len(), write).await? {
            Answers::Many(answers) => Ok(answers),
            Answers::One(answer) => answer.map(|answer| vec![answer]).ok_or_else(missing_answer),
        }
    }

    fn call<W: FnOnce(&mut Vec<u8>)>(&self, commands: usize, write: W) -> Call<'_, W> {
        Call { calls: self, write: Some(write), commands, place: None }
    }

    /// Returns a test of whether the driver was idle since the previous test, at first since now.
    /// Each test wakes the driver, so that a driver with nothing to do passes the next one.
    pub(super) fn watch(&self) -> impl FnMut() -> bool + use<> {
        let mut previous = self.0.idle_count.load(Ordering::Acquire);
        let shared = self.shared();
        move || {
            let count = shared.idle_count.load(Ordering::Acquire);
            let was_idle = count != previous;
            previous = count;
            if let Some(driver) = &shared.queue().driver {
                driver.wake_by_ref();
            }
            was_idle
        }
    }
}

impl Shared {
    /// Sets the waker of the driver, which is woken by the next command. Moves the commands that wait
    /// to be written to `written`, which is empty, if `may_write` returns true. Returns whether
    /// commands wait.
    pub(super) fn take_output(
        &self,
        driver: &Waker,
        written: &mut Vec<u8>,
        may_write: impl FnOnce() -> bool,
    ) -> bool {
        let mut queue = self.queue();
        match &mut queue.driver {
            Some(waker) => waker.clone_from(driver),
            None => queue.driver = Some(driver.clone()),
        }
        if queue.output.is_empty() {
            return false;
        }
        if may_write() {
            mem::swap(&mut queue.output, written);
        }
        true
    }

    /// Counts a time at which everything is written and nothing is left to read.
    pub(super) fn count_idle(&self) {
        self.idle_count.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives answers to the calls in their order, and wakes those that have all of them. Returns false
    /// if an answer belongs to no call.
    pub(super) fn answer(&self, answers: &mut Vec<Value>) -> bool {
        let mut queue = self.queue();
        let mut callers = Vec::with_capacity(answers.len());
        let mut is_expected = true;
        for answer in answers.drain(..) {
            is_expected &= queue.answer(answer, &mut callers);
        }
        drop(queue);
        callers.into_iter().for_each(Waker::wake);
        is_expected
    }

    /// Ends all calls, and those that begin later, with an error. Later errors have no effect.
    pub(super) fn fail(&self, error: &RedisError) {
        let mut queue = self.queue();
        if queue.failure.is_some() {
            return;
        }
        queue.failure = Some(error.clone());
        let mut callers = vec![];
        for (_, waiting) in &mut queue.waiting {
            callers.extend(waiting.caller.take());
        }
        drop(queue);
        callers.into_iter().for_each(Waker::wake);
        tracing::debug!(%error, "a connection to Redis has ended");
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code panics between two changes that belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Gives an answer to the first call in the order.
    fn answer(&mut self, answer: Value, callers: &mut Vec<Waker>) -> bool {
        let Some(place) = self.order.front().copied() else { return false };
        let Some(waiting) = self.waiting.get_mut(place) else { return false };
        match &mut waiting.answers {
            Answers::One(one) => *one = Some(answer),
            Answers::Many(many) => many.push(answer),
        }
        waiting.missing -= 1;
        if waiting.missing == 0 {
            self.order.pop_front();
            match waiting.caller.take() {
                Some(caller) => callers.push(caller),
                None => drop(self.waiting.remove(place)),
            }
        }
        true
    }
}

impl<W: FnOnce(&mut Vec<u8>)> Call<'_, W> {
    /// Appends the commands to those that wait to be written.
    fn begin(&mut self, write: W, context: &Context<'_>) -> Poll<RedisResult<Answers>> {
        let mut queue = self.calls.0.queue();
        if let Some(failure) = &queue.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        let was_empty = queue.output.is_empty();
        write(&mut queue.output);
        let answers = match self.commands {
            1 => Answers::One(None),
            count => Answers::Many(Vec::with_capacity(count)),
        };
        let (missing, caller) = (self.commands, Some(context.waker().clone()));
        let place = queue.waiting.insert(Waiting { missing, answers, caller });
        queue.order.push_back(place);
        self.place = Some(place);
        if was_empty && let Some(driver) = &queue.driver {
            driver.wake_by_ref();
        }
        Poll::Pending
    }
}

impl<W: FnOnce(&mut Vec<u8>) + Unpin> Future for Call<'_, W> {
    type Output = RedisResult<Answers>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(write) = self.write.take() {
            return self.begin(write, context);
        }
        let Some(place) = self.place else { return Poll::Ready(Err(missing_answer())) };
        let mut queue = self.calls.0.queue();
        let Queue { waiting, failure, .. } = &mut *queue;
        let Some(call) = waiting.get_mut(place) else {
            return Poll::Ready(Err(missing_answer()));
        };
        if call.missing > 0 {
            if let Some(failure) = failure {
                return Poll::Ready(Err(failure.clone()));
            }
            match &mut call.caller {
                Some(caller) => caller.clone_from(context.waker()),
                None => call.caller = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        let call = waiting.remove(place);
        drop(queue);
        self.place = None;
        Poll::Ready(Ok(call.answers))
    }
}

impl<W> Drop for Call<'_, W> {
    /// Leaves the place in the order until the answers arrive.
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut queue = self.calls.0.queue();
        let Some(waiting) = queue.waiting.get_mut(place) else { return };
        waiting.caller = None;
        if waiting.missing == 0 {
            queue.waiting.remove(place);
        }
    }
}

impl<W> fmt::Debug for Call<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Returns the error of a call that is polled after its end, which no caller does.
fn missing_answer() -> RedisError {
    std::io::Error::other("a call to Redis has no answer").into()
}
