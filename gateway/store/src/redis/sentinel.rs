//! The address of the primary, which a background task reads from the Sentinels.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{ConnectionInfo, ErrorKind, FromRedisValue, RedisError, Value};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    advice::{UNREACHABLE_ADVICE, advice},
    dial::Connection,
    reconnect::{AddressReceiver, LinkOptions},
    task::Task,
    topology::{SentinelTopology, server_at},
};
use crate::log_throttle::{LogThrottle, Sums};

/// Time between two rounds of questions while all links are live. After a failover, calls go to the
/// former primary for no longer than this, if it still accepts them.
const PERIOD: Duration = Duration::from_secs(1);

/// Shortest time between two rounds, when links are lost.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Longest wait for the answer of a Sentinel.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The answer of a Sentinel.
#[derive(Debug)]
struct SentinelAnswer {
    /// Grows with each failover: of two answers, the one with the greater epoch is newer.
    epoch: u64,
    /// The address of the primary, with the login of the Sentinel.
    primary: ConnectionInfo,
}

/// One Sentinel, and the connection to it.
#[derive(Debug)]
struct Sentinel {
    server: ConnectionInfo,
    connection: Option<Connection>,
    failures: LogThrottle,
}

/// Starts the task. The address of the primary is unknown until the first answer.
pub(super) fn start(
    topology: SentinelTopology,
    options: Arc<LinkOptions>,
) -> (AddressReceiver, Task) {
    let (sender, receiver) = watch::channel(None);
    let task = Task::spawn(async move {
        let SentinelTopology { sentinels, primary_name, login } = topology;
        let new = |server| Sentinel { server, connection: None, failures: LogThrottle::new() };
        let mut sentinels: Vec<_> = sentinels.into_iter().map(new).collect();
        loop {
            let newest;
            (sentinels, newest) = ask_all(sentinels, &primary_name, &options).await;
            if let Some(SentinelAnswer { primary, .. }) = newest {
                let primary = primary.set_redis_settings(login.clone());
                sender.send_if_modified(|current| replace(current, primary));
            }
            sleep(SHORTEST_PERIOD).await;
            let _ = timeout(PERIOD - SHORTEST_PERIOD, options.lost.notified()).await;
        }
    });
    (receiver, task)
}

/// Replaces the primary. Returns whether the address has changed.
fn replace(current: &mut Option<ConnectionInfo>, primary: ConnectionInfo) -> bool {
    let has_changed = current.as_ref().map(ConnectionInfo::addr) != Some(primary.addr());
    if has_changed {
        tracing::info!(primary = primary.addr().to_string(), "Sentinels name another primary");
        *current = Some(primary);
    }
    has_changed
}

/// Asks all Sentinels at once. Returns the newest answer when all have answered or timed out.
async fn ask_all(
    sentinels: Vec<Sentinel>,
    primary: &str,
    options: &Arc<LinkOptions>,
) -> (Vec<Sentinel>, Option<SentinelAnswer>) {
    let mut questions = JoinSet::new();
    for mut sentinel in sentinels {
        let (options, primary) = (Arc::clone(options), primary.to_owned());
        questions.spawn(async move {
            let answer = sentinel.ask(&primary, &options).await;
            (sentinel, answer)
        });
    }
    let (sentinels, answers): (_, Vec<_>) = questions.join_all().await.into_iter().unzip();
    (sentinels, answers.into_iter().flatten().max_by_key(|answer| answer.epoch))
}

impl Sentinel {
    /// Returns the answer, or `None` when the Sentinel does not answer or has no such primary.
    async fn ask(&mut self, primary: &str, options: &LinkOptions) -> Option<SentinelAnswer> {
        let answer = timeout(ANSWER_TIMEOUT, self.send_question(primary, options)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        match answer {
            Ok(Some(answer)) => {
                if let Some(Sums { count, seconds }) = self.failures.end() {
                    let (sentinel, questions) = (self.server.addr().to_string(), count);
                    let message = "a Sentinel knows the primary again";
                    tracing::info!(sentinel, questions, seconds, "{message}");
                }
                return Some(answer);
            }
            Ok(None) => {
                let error = format!("it watches no primary that is called {primary}");
                self.report(&error, "correct the name after the address in REDIS_URL");
            }
            Err(error) => {
                self.connection = None;
                let error = error.to_string();
                let advice = match advice(&error) {
                    UNREACHABLE_ADVICE => "check that it runs and that REDIS_URL names it",
                    advice => advice,
                };
                self.report(&error, advice);
            }
        }
        None
    }

    async fn send_question(
        &mut self,
        primary: &str,
        options: &LinkOptions,
    ) -> Result<Option<SentinelAnswer>, RedisError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => options.dialer.dial(&self.server).await?,
        };
        // The first command returns the address as soon as another primary is promoted, the second
        // one the epoch.
        let mut pipeline = redis::pipe();
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(primary);
        let answers = connection.calls.send_all(&pipeline).await?;
        self.connection = Some(connection);
        read_answer(answers, &self.server)
    }

    fn report(&mut self, error: &str, advice: &'static str) {
        if let Some(Sums { count, seconds }) = self.failures.record_error(error, Instant::now()) {
            let (sentinel, questions) = (self.server.addr().to_string(), count);
            let message = "a Sentinel does not answer, or does not know the primary";
            tracing::error!(sentinel, error, advice, questions, seconds, "{message}");
        }
    }
}

/// Returns the answer in the replies to both commands, if they contain a primary.
fn read_answer(
    replies: Vec<Value>,
    sentinel: &ConnectionInfo,
) -> Result<Option<SentinelAnswer>, RedisError> {
    let mut replies = replies.into_iter().map(Value::extract_error);
    let missing = || (ErrorKind::UnexpectedReturnType, "a Sentinel has not answered a command");
    let address = replies.next().ok_or_else(missing)??;
    let Some((host, port)) = Option::<(String, u16)>::from_redis_value(address)? else {
        return Ok(None);
    };
    // Without the right to the second command the epoch is 0, and the address still counts.
    let details = replies.next().and_then(Result::ok);
    let details = details.and_then(|map| HashMap::<String, String>::from_redis_value(map).ok());
    let epoch = details.and_then(|details| details.get("config-epoch")?.parse().ok());
    let primary = server_at(sentinel, host, port);
    Ok(Some(SentinelAnswer { epoch: epoch.unwrap_or(0), primary }))
}
