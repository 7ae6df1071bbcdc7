//! One server of Redis: its links, and calls over them.

use std::{
    borrow::Cow,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{Arg, Cmd, Pipeline, RedisResult, ServerErrorKind, Value};
use tokio::time::Instant;

use super::{
    breaker::{Breaker, State},
    call_error::CallError,
    call_record::CallRecord,
    deadline::{CallDeadline, Overdue, wait_for_answer},
    reconnect::{AddressReceiver, Link, LinkOptions, LiveLink, PendingCall},
};

/// Most links to one server. Each carries many commands at once, and Redis runs one command at a
/// time, so that further links make nothing faster.
pub(super) const MAX_LINKS: usize = 4;

thread_local! {
    /// The number of this thread among the threads that send commands, without gaps.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// A server and the links to it.
#[derive(Debug)]
pub(super) struct Node {
    links: Vec<Arc<Link>>,
    breaker: Arc<Breaker>,
    address: AddressReceiver,
    options: Arc<LinkOptions>,
}

/// A call that has been sent.
struct Exchange<'n> {
    node: &'n Node,
    begin: Instant,
    /// The time that the server has.
    time: Duration,
    deadline: CallDeadline,
    pending: PendingCall<'n>,
    record: CallRecord,
}

/// The end of the wait for an answer.
type Outcome<A> = Result<RedisResult<A>, Overdue>;

impl Node {
    /// Starts to connect. `name` is the server's name in logs and metrics.
    pub(super) fn start(
        name: String,
        address: AddressReceiver,
        options: Arc<LinkOptions>,
        links: usize,
    ) -> Self {
        let breaker = Arc::new(Breaker::new(name));
        let node = Self { links: vec![], breaker, address, options };
        node.with_links(links)
    }

    /// Returns the same server with `count` links. Links that exist are kept.
    pub(super) fn with_links(&self, count: usize) -> Self {
        let new = |index: usize| {
            let (address, options) = (self.address.clone(), Arc::clone(&self.options));
            Arc::new(Link::start(index + 1, address, options, Arc::clone(&self.breaker)))
        };
        let link = |index| self.links.get(index).map_or_else(|| new(index), Arc::clone);
        Self {
            links: (0..count.clamp(1, MAX_LINKS)).map(link).collect(),
            breaker: Arc::clone(&self.breaker),
            address: self.address.clone(),
            options: Arc::clone(&self.options),
        }
    }

    pub(super) fn link_count(&self) -> usize {
        self.links.len()
    }

    pub(super) fn state(&self) -> State {
        self.breaker.state()
    }

    /// Waits until all links are live.
    pub(super) async fn wait_until_live(&self) {
        for link in &self.links {
            link.wait_until_live().await;
        }
    }

    /// Sends a command once. The answer can be an error of the server.
    ///
    /// # Errors
    ///
    /// When there is no live link, the link breaks, the server is silent, or this process is late.
    /// The server may have run the command, so that the caller must not send the command again.
    pub(super) async fn send(
        &self,
        command: &Cmd,
        deadline: CallDeadline,
    ) -> Result<Value, CallError> {
        let (link, exchange) = self.begin(deadline, 1, || name(command).into_owned())?;
        let driver_was_idle = link.connection.calls.watch();
        let answer = pin!(link.connection.calls.send(command));
        let outcome = exchange.wait(driver_was_idle, answer).await;
        let outcome = outcome.map(|answer| answer.map(|value| [value]));
        exchange.finish(&link, outcome).map(|[value]| value)
    }

    /// Sends commands in one pipeline, each of them once. Answers can be errors of the server.
    ///
    /// # Errors
    ///
    /// As [`Node::send`].
    pub(super) async fn send_all(
        &self,
        pipeline: &Pipeline,
        deadline: CallDeadline,
    ) -> Result<Vec<Value>, CallError> {
        let count = pipeline.len();
        let (link, exchange) = self.begin(deadline, count, || operation(pipeline))?;
        let driver_was_idle = link.connection.calls.watch();
        let answers = pin!(link.connection.calls.send_all(pipeline));
        let outcome = exchange.wait(driver_was_idle, answers).await;
        exchange.finish(&link, outcome)
    }

    /// Begins a call of `commands` commands. `operation` is their name in a trace.
    fn begin(
        &self,
        deadline: CallDeadline,
        commands: usize,
        operation: impl FnOnce() -> String,
    ) -> Result<(LiveLink, Exchange<'_>), CallError> {
        let Some(link) = self.live_link() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let begin = Instant::now();
        let time = deadline.at.saturating_duration_since(begin);
        if !deadline.is_first_attempt && time.is_zero() {
            // Another server has answered before its own deadline, so that this process was late.
            return Err(CallError::GatewayLate);
        }
        let pending = PendingCall::new(&self.links);
        let record = CallRecord::start(begin, commands, operation);
        Ok((link, Exchange { node: self, begin, time, deadline, pending, record }))
    }

    /// Reacts to an answer of a replica. Where Sentinels name the primary, the link is closed, so
    /// that the Sentinels are asked again. Otherwise the name of the server may lead to another
    /// server by now, and the link is used until a new connection works.
    fn leave_replica(&self, link: &LiveLink) {
        if self.options.primaries_only {
            link.close();
        } else {
            link.replace();
        }
    }

    /// Returns the link of this thread, or the next one that is live. Each thread has its own link,
    /// because commands that one thread sends over one link are written and answered together.
    fn live_link(&self) -> Option<LiveLink> {
        let own = THREAD.with(|number| number % self.links.len());
        let (before, from) = self.links.split_at(own);
        from.iter().chain(before).find_map(|link| link.live())
    }
}

impl Exchange<'_> {
    /// Waits for the answer, until it is overdue.
    fn wait<A>(
        &self,
        driver_was_idle: impl FnMut() -> bool,
        answer: impl Future<Output = RedisResult<A>>,
    ) -> impl Future<Output = Outcome<A>> {
        let latest = self.deadline.at + self.node.options.answer_timeout;
        wait_for_answer(self.time, Some(latest), driver_was_idle, answer)
    }

    /// Records the outcome, and closes links that do not work.
    fn finish<A: AsRef<[Value]>>(
        mut self,
        link: &LiveLink,
        outcome: Outcome<A>,
    ) -> Result<A, CallError> {
        let error = match &outcome {
            Ok(Ok(answers)) => answers.as_ref().iter().find_map(error_code),
            Ok(Err(_)) => Some("disconnected"),
            Err(Overdue::Server) => Some("timeout"),
            Err(Overdue::Process) => Some("gateway_late"),
        };
        if let Some(error) = error {
            self.record.fail(error);
        }
        if let Err(Overdue::Process) = outcome {
            // The pending call is dropped incomplete, so that the connections are probed.
            return Err(CallError::GatewayLate);
        }
        self.pending.complete();
        match outcome {
            Ok(Ok(answers)) => {
                if answers.as_ref().iter().any(is_from_replica) {
                    self.node.leave_replica(link);
                }
                Ok(answers)
            }
            Ok(Err(error)) => {
                link.close();
                Err(CallError::Redis(error))
            }
            Err(_) => {
                if self.deadline.is_first_attempt {
                    // The other links lead to the same server, which is silent.
                    self.node.links.iter().for_each(|link| link.close_if_older(self.begin));
                }
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// Returns the name of a command.
fn name(command: &Cmd) -> Cow<'_, str> {
    match command.args_iter().next() {
        Some(Arg::Simple(name)) => String::from_utf8_lossy(name),
        _ => Cow::default(),
    }
}

/// Returns the name of the commands of a pipeline in a trace.
fn operation(pipeline: &Pipeline) -> String {
    let mut names = pipeline.cmd_iter().map(name);
    let first = names.next().unwrap_or_default();
    match (pipeline.len(), names.all(|name| name == first)) {
        (1, _) => first.into_owned(),
        (_, true) => format!("PIPELINE {first}"),
        (_, false) => "PIPELINE".to_owned(),
    }
}

/// Returns the first word of an answer that is an error.
fn error_code(answer: &Value) -> Option<&str> {
    let Value::ServerError(error) = answer else { return None };
    Some(error.code())
}

fn is_from_replica(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    matches!(error.kind(), Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}
