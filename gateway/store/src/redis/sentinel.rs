//! Asks Sentinels which server is the primary, again and again.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{ConnectionInfo, FromRedisValue, RedisError, Value};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    advice::{UNREACHABLE_ADVICE, advice},
    dial::Connection,
    keeper::{Upkeep, Whereabouts},
    task::Task,
    topology::{SentinelTopology, server_at},
};
use crate::log_throttle::{LogThrottle, Sums};

/// How often Sentinels are asked while all is well: a primary that they have replaced, and that
/// does not know yet, gets calls for no longer than this.
const PERIOD: Duration = Duration::from_secs(1);

/// Shortest time between two rounds of questions, when links are lost.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Longest wait for an answer of a Sentinel.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a Sentinel says of the primary.
#[derive(Debug)]
struct Opinion {
    /// Grows with each failover: of two opinions, the one with the greater epoch is newer.
    epoch: u64,
    /// Where it is; the login is still that of the Sentinel.
    primary: ConnectionInfo,
}

/// One Sentinel, and how it can be asked.
#[derive(Debug)]
struct Sentinel {
    server: ConnectionInfo,
    connection: Option<Connection>,
    failures: LogThrottle,
}

/// Starts to ask. The primary's whereabouts are known from the first answer on.
pub(super) fn follow(topology: SentinelTopology, upkeep: Arc<Upkeep>) -> (Whereabouts, Task) {
    let (sender, whereabouts) = watch::channel(None);
    let task = Task::spawn(async move {
        let SentinelTopology { sentinels, primary_name, login } = topology;
        let new = |server| Sentinel { server, connection: None, failures: LogThrottle::new() };
        let mut sentinels: Vec<_> = sentinels.into_iter().map(new).collect();
        loop {
            let newest;
            (sentinels, newest) = ask_all(sentinels, &primary_name, &upkeep).await;
            if let Some(Opinion { primary, .. }) = newest {
                let primary = primary.set_redis_settings(login.clone());
                sender.send_if_modified(|current| replace(current, primary));
            }
            sleep(SHORTEST_PERIOD).await;
            let _ = timeout(PERIOD - SHORTEST_PERIOD, upkeep.lost.notified()).await;
        }
    });
    (whereabouts, task)
}

/// Whether the primary is another one than before.
fn replace(current: &mut Option<ConnectionInfo>, primary: ConnectionInfo) -> bool {
    let is_new = current.as_ref().map(ConnectionInfo::addr) != Some(primary.addr());
    if is_new {
        tracing::info!(primary = primary.addr().to_string(), "Sentinels name another primary");
        *current = Some(primary);
    }
    is_new
}

/// Asks all Sentinels at once, and gives the newest opinion when the last one has answered.
async fn ask_all(
    sentinels: Vec<Sentinel>,
    primary: &str,
    upkeep: &Arc<Upkeep>,
) -> (Vec<Sentinel>, Option<Opinion>) {
    let mut questions = JoinSet::new();
    for mut sentinel in sentinels {
        let (upkeep, primary) = (Arc::clone(upkeep), primary.to_owned());
        questions.spawn(async move {
            let opinion = sentinel.ask(&primary, &upkeep).await;
            (sentinel, opinion)
        });
    }
    let (sentinels, opinions): (_, Vec<_>) = questions.join_all().await.into_iter().unzip();
    (sentinels, opinions.into_iter().flatten().max_by_key(|opinion| opinion.epoch))
}

impl Sentinel {
    /// What it says, or `None` when it cannot be asked or knows of no such primary.
    async fn ask(&mut self, primary: &str, upkeep: &Upkeep) -> Option<Opinion> {
        let answer = timeout(PATIENCE, self.question(primary, upkeep)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        match answer {
            Ok(Some(opinion)) => {
                if let Some(Sums { count, seconds }) = self.failures.end() {
                    let sentinel = self.server.addr().to_string();
                    tracing::info!(
                        sentinel,
                        questions = count,
                        seconds,
                        "a Sentinel knows the primary again"
                    );
                }
                return Some(opinion);
            }
            Ok(None) => {
                let fault = format!("it watches no primary that is called {primary}");
                self.note(&fault, "correct the name after the address in REDIS_URL");
            }
            Err(error) => {
                self.connection = None;
                let fault = error.to_string();
                let advice = match advice(&fault) {
                    UNREACHABLE_ADVICE => "check that it runs and that REDIS_URL names it",
                    advice => advice,
                };
                self.note(&fault, advice);
            }
        }
        None
    }

    async fn question(
        &mut self,
        primary: &str,
        upkeep: &Upkeep,
    ) -> Result<Option<Opinion>, RedisError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => upkeep.dialer.dial(&self.server).await?,
        };
        let mut calls = connection.calls.clone();
        // The first says where the primary is as soon as another one is promoted, the second which
        // Sentinel knows best.
        let mut pipeline = redis::pipe();
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(primary);
        let answers = calls.send_packed_commands(&pipeline, 0, 2).await?;
        self.connection = Some(connection);
        opinion(answers, &self.server)
    }

    fn note(&mut self, fault: &str, advice: &'static str) {
        if let Some(Sums { count, seconds }) = self.failures.record_error(fault, Instant::now()) {
            let sentinel = self.server.addr().to_string();
            tracing::error!(
                sentinel,
                fault,
                advice,
                questions = count,
                seconds,
                "a Sentinel does not answer, or does not know the primary"
            );
        }
    }
}

/// What the answers to both questions say, if they name a primary.
fn opinion(answers: Vec<Value>, sentinel: &ConnectionInfo) -> Result<Option<Opinion>, RedisError> {
    let mut answers = answers.into_iter().map(Value::extract_error);
    let place = answers.next().transpose()?.unwrap_or(Value::Nil);
    let Some((host, port)) = Option::<(String, u16)>::from_redis_value(place)? else {
        return Ok(None);
    };
    // A user who may not ask this learns where the primary is all the same.
    let details = answers.next().and_then(Result::ok);
    let details = details.and_then(|map| HashMap::<String, String>::from_redis_value(map).ok());
    let epoch = details.and_then(|details| details.get("config-epoch")?.parse().ok());
    Ok(Some(Opinion { epoch: epoch.unwrap_or(0), primary: server_at(sentinel, host, port) }))
}
