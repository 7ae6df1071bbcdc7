//! The links to one server, and calls over them.

use std::{
    borrow::Cow,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redis::{Arg, Pipeline, ServerErrorKind, Value};
use tokio::time::Instant;

use super::{
    breaker::{Breaker, State},
    call_error::CallError,
    call_metrics::CallMetrics,
    deadline::{CallDeadline, Overdue, wait_for_answer},
    keeper::{Upkeep, Whereabouts},
    link::{Link, LiveLink, Unanswered},
};

/// More connections than this make nothing faster: each carries many commands at once, and Redis
/// runs one command at a time.
pub(super) const MAX_LINKS: usize = 4;

thread_local! {
    /// Tells the threads that send commands apart, by numbers without gaps.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// A server and the links to it.
#[derive(Debug)]
pub(super) struct Server {
    links: Vec<Arc<Link>>,
    breaker: Arc<Breaker>,
    whereabouts: Whereabouts,
    upkeep: Arc<Upkeep>,
}

impl Server {
    /// Starts to connect. `node` is the server's name in logs and metrics.
    pub(super) fn keep(
        node: String,
        whereabouts: Whereabouts,
        upkeep: Arc<Upkeep>,
        links: usize,
    ) -> Self {
        let breaker = Arc::new(Breaker::new(node));
        let empty = Self { links: vec![], breaker, whereabouts, upkeep };
        empty.with_links(links)
    }

    /// The same server with so many links, of which the ones that are there are kept.
    pub(super) fn with_links(&self, count: usize) -> Self {
        let new = |index: usize| {
            let (server, upkeep) = (self.whereabouts.clone(), Arc::clone(&self.upkeep));
            Arc::new(Link::keep(index + 1, server, upkeep, Arc::clone(&self.breaker)))
        };
        let link = |index| self.links.get(index).map_or_else(|| new(index), Arc::clone);
        Self {
            links: (0..count.clamp(1, MAX_LINKS)).map(link).collect(),
            breaker: Arc::clone(&self.breaker),
            whereabouts: self.whereabouts.clone(),
            upkeep: Arc::clone(&self.upkeep),
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

    /// Sends commands in one pipeline, each of them once. Answers can be errors themselves.
    ///
    /// # Errors
    ///
    /// When there is no live link, when it breaks, when the server is silent, or when this process
    /// is late. Nobody can tell then which of the commands were run, so they must not be sent again.
    pub(super) async fn call(
        &self,
        pipeline: &Pipeline,
        deadline: CallDeadline,
    ) -> Result<Vec<Value>, CallError> {
        let Some(mut link) = self.live_link() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let sent = Instant::now();
        let time = deadline.at.saturating_duration_since(sent);
        if !deadline.is_first_attempt && time.is_zero() {
            // Only a late process can have had another server decide after the deadline.
            return Err(CallError::GatewayLate);
        }
        let unanswered = Unanswered::new(&self.links);
        let driver_was_idle = link.connection.activity.watch();
        let call = link.calls().send_packed_commands(pipeline, 0, pipeline.len());
        let mut shown = CallMetrics::start(pipeline.len(), || operation(pipeline));
        let latest = deadline.at + self.upkeep.answer_timeout;
        let answers = wait_for_answer(time, Some(latest), driver_was_idle, call).await;
        let fault = match &answers {
            Ok(Ok(answers)) => answers.iter().find_map(error_code),
            Ok(Err(_)) => Some("disconnected"),
            Err(Overdue::Server) => Some("timeout"),
            Err(Overdue::Process) => Some("gateway_late"),
        };
        if let Some(fault) = fault {
            shown.fail(fault);
        }
        drop(shown);
        if let Err(Overdue::Process) = answers {
            // What is not settled has the connections tried.
            return Err(CallError::GatewayLate);
        }
        unanswered.settle();
        match answers {
            Ok(Ok(answers)) => {
                if answers.iter().any(is_from_replica) {
                    self.leave_replica(&link);
                }
                Ok(answers)
            }
            Ok(Err(error)) => {
                link.give_up();
                Err(CallError::Redis(error))
            }
            Err(_) => {
                if deadline.is_first_attempt {
                    // The other links lead to the same server, and it is silent.
                    self.links.iter().for_each(|link| link.give_up_since(sent));
                }
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Where Sentinels say who the primary is, they are asked again. Otherwise the name of the
    /// server may lead elsewhere by now, and this one is used until there is a better one.
    fn leave_replica(&self, link: &LiveLink) {
        if self.upkeep.primaries_only {
            link.give_up();
        } else {
            link.retire();
        }
    }

    /// The link of this thread, or the next one that is live. A link for each thread rather than in
    /// turn, because commands that a thread sends over one link are written and answered together.
    fn live_link(&self) -> Option<LiveLink> {
        let own = THREAD.with(|number| number % self.links.len());
        let (before, from) = self.links.split_at(own);
        from.iter().chain(before).find_map(|link| link.live())
    }
}

/// What a trace calls the commands of a pipeline.
fn operation(pipeline: &Pipeline) -> String {
    let mut names = pipeline.cmd_iter().map(|command| match command.args_iter().next() {
        Some(Arg::Simple(name)) => String::from_utf8_lossy(name),
        _ => Cow::default(),
    });
    let first = names.next().unwrap_or_default();
    match (pipeline.len(), names.all(|name| name == first)) {
        (1, _) => first.into_owned(),
        (_, true) => format!("PIPELINE {first}"),
        (_, false) => "PIPELINE".to_owned(),
    }
}

/// The first word of an answer that is an error.
fn error_code(answer: &Value) -> Option<&str> {
    let Value::ServerError(error) = answer else { return None };
    Some(error.code())
}

fn is_from_replica(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    matches!(error.kind(), Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}
