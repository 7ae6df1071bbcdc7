//! Calls to a cluster: to the primaries that have the keys, wherever slots are moved.

use std::{collections::BTreeMap, io, sync::Arc};

use opentelemetry::context::FutureExt;
use redis::{Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::{task::JoinSet, time::Instant};

use super::{
    KeyedCommand,
    call_error::CallError,
    cluster_map::Node,
    deadline::CallDeadline,
    follower::Follower,
    keeper::Upkeep,
    slots::{Redirection, redirection, slot},
};

/// Most times that one command is sent on: a slot moves from one server to another, and can have
/// moved again when the map of slots is old.
const MAX_REDIRECTIONS: usize = 3;

/// The servers of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    follower: Follower,
}

/// A command on its way through the cluster.
#[derive(Debug)]
struct Call {
    slot: usize,
    command: Cmd,
    /// Where the last server has sent it.
    redirection: Option<Redirection>,
    outcome: Result<Value, CallError>,
}

/// The commands that one server is sent in one pipeline.
#[derive(Debug)]
struct Batch {
    node: Arc<Node>,
    pipeline: Pipeline,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    /// The place of the call among all.
    call: usize,
    /// Where its answer is among those of the pipeline.
    answer: usize,
}

impl Call {
    /// Whether the slot is elsewhere for good.
    fn has_moved(&self) -> bool {
        self.redirection.as_ref().is_some_and(|redirection| !redirection.asking)
    }
}

impl Cluster {
    /// Starts to connect: to one of the `seeds` first, then to all primaries.
    pub(super) fn connect(
        seeds: Vec<ConnectionInfo>,
        max_connections: usize,
        upkeep: Arc<Upkeep>,
    ) -> Self {
        Self { follower: Follower::start(seeds, max_connections, upkeep) }
    }

    /// Waits until every primary is connected.
    pub(super) async fn wait_until_live(&self) {
        self.follower.wait_until_live().await;
    }

    /// Sends commands, each of them once to a server that runs it: one that a server sends on was
    /// not run there. Answers in the order of the commands.
    pub(super) async fn call_all(
        &self,
        commands: Vec<KeyedCommand>,
        deadline: Instant,
    ) -> Vec<Result<Value, CallError>> {
        let new = |KeyedCommand { key, command }| Call {
            slot: slot(key.as_bytes()),
            command,
            redirection: None,
            outcome: Ok(Value::Nil),
        };
        let mut calls: Vec<_> = commands.into_iter().map(new).collect();
        let mut waiting: Vec<_> = (0..calls.len()).collect();
        for round in 0..=MAX_REDIRECTIONS {
            let batches = self.batches(&mut calls, &waiting);
            let deadline_of_round = CallDeadline { at: deadline, is_first_attempt: round == 0 };
            for (batch, answers) in send(batches, deadline_of_round).await {
                batch.settle(&mut calls, &answers);
            }
            let is_sent_on = |call: &Call| call.redirection.is_some();
            waiting.retain(|index| calls.get(*index).is_some_and(is_sent_on));
            if waiting.is_empty() {
                break;
            }
            if calls.iter().any(Call::has_moved) {
                self.follower.hurry();
            }
        }
        let outcome = |call: Call| match call.redirection {
            None => call.outcome,
            Some(_) => Err(cluster_error(
                ServerErrorKind::TryAgain,
                "the servers send this command from one to the other",
            )),
        };
        calls.into_iter().map(outcome).collect()
    }

    /// The waiting calls by server, in their order. Calls that no server is there for are settled.
    fn batches(&self, calls: &mut [Call], waiting: &[usize]) -> Vec<Batch> {
        let mut batches = BTreeMap::new();
        for &index in waiting {
            let Some(call) = calls.get_mut(index) else { continue };
            let redirection = call.redirection.take();
            let asking = redirection.as_ref().is_some_and(|redirection| redirection.asking);
            let node = match redirection {
                Some(redirection) => self.follower.node_at(&redirection.to),
                None => self.follower.map().owner(call.slot),
            };
            match node {
                Some(node) => {
                    let batch: &mut Batch =
                        batches.entry(node.address.clone()).or_insert_with(|| Batch::new(node));
                    batch.add(index, call.command.clone(), asking);
                }
                None => call.outcome = Err(self.homeless()),
            }
        }
        batches.into_values().collect()
    }

    /// Why there is no server for a call.
    fn homeless(&self) -> CallError {
        if self.follower.map().is_empty() {
            return io::ErrorKind::NotConnected.into();
        }
        cluster_error(ServerErrorKind::ClusterDown, "no server has the slot of this key")
    }
}

fn cluster_error(kind: ServerErrorKind, detail: &'static str) -> CallError {
    CallError::Redis(RedisError::from((ErrorKind::Server(kind), detail)))
}

type Answers = Result<Vec<Value>, CallError>;

/// Sends every batch at the same time.
async fn send(mut batches: Vec<Batch>, deadline: CallDeadline) -> Vec<(Batch, Answers)> {
    if batches.len() > 1 {
        let mut sent = JoinSet::new();
        for batch in batches {
            sent.spawn(batch.send(deadline).with_current_context());
        }
        return sent.join_all().await;
    }
    // Nearly all calls: one command, or commands for one server.
    match batches.pop() {
        Some(batch) => vec![batch.send(deadline).await],
        None => vec![],
    }
}

impl Batch {
    fn new(node: Arc<Node>) -> Self {
        Self { node, pipeline: Pipeline::new(), members: vec![] }
    }

    fn add(&mut self, call: usize, command: Cmd, asking: bool) {
        if asking {
            // It holds for the next command of the connection.
            self.pipeline.cmd("ASKING");
        }
        self.members.push(Member { call, answer: self.pipeline.len() });
        self.pipeline.add_command(command);
    }

    async fn send(self, deadline: CallDeadline) -> (Self, Answers) {
        let answers = self.node.server.call(&self.pipeline, deadline).await;
        (self, answers)
    }

    /// Writes the answers to the calls that they belong to.
    fn settle(&self, calls: &mut [Call], answers: &Answers) {
        for member in &self.members {
            let Some(call) = calls.get_mut(member.call) else { continue };
            let answer = match answers {
                Ok(answers) => answers.get(member.answer).cloned().unwrap_or(Value::Nil),
                Err(error) => {
                    call.outcome = Err(error.clone());
                    continue;
                }
            };
            call.redirection = redirection(&answer, &self.node.address);
            call.outcome = answer.extract_error().map_err(CallError::Redis);
        }
    }
}
