//! Calls to a cluster: each command goes to the node that has the slot of its key.

use std::{collections::BTreeMap, io, sync::Arc};

use opentelemetry::context::FutureExt;
use redis::{Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::{task::JoinSet, time::Instant};

use super::{
    call_error::CallError,
    commands::KeyedCommand,
    deadline::CallDeadline,
    reconnect::LinkOptions,
    slot_map::ClusterNode,
    slots::{Redirection, redirection, slot},
    topology_refresh::TopologyRefresh,
};

/// Most redirections of one command: a slot moves from one node to another, and can have moved again
/// when the slot map is old.
const MAX_REDIRECTIONS: usize = 3;

/// The nodes of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    refresh: TopologyRefresh,
}

/// A command of a batch on its way through the cluster.
#[derive(Debug)]
struct Call {
    slot: usize,
    command: Cmd,
    /// The redirection in the last answer.
    redirection: Option<Redirection>,
    outcome: Option<Result<Value, CallError>>,
}

/// The commands that are sent to one node in one pipeline.
#[derive(Debug)]
struct Batch {
    node: Arc<ClusterNode>,
    pipeline: Pipeline,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    /// The index of the call.
    call: usize,
    /// The index of its answer among those of the pipeline.
    answer: usize,
}

impl Cluster {
    /// Starts to connect: to one of the `seeds` first, then to all primaries.
    pub(super) fn connect(
        seeds: Vec<ConnectionInfo>,
        max_connections: usize,
        options: Arc<LinkOptions>,
    ) -> Self {
        Self { refresh: TopologyRefresh::start(seeds, max_connections, options) }
    }

    /// Waits until every primary is connected.
    pub(super) async fn wait_until_live(&self) {
        self.refresh.wait_until_live().await;
    }

    /// Sends a command. Exactly one node runs the command, because a node that redirects it does not.
    pub(super) async fn send(
        &self,
        command: KeyedCommand,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let KeyedCommand { key, command } = command;
        let slot = slot(key.as_bytes());
        let mut current = None;
        for round in 0..=MAX_REDIRECTIONS {
            let node = self.find_node(slot, current.as_ref())?;
            let deadline = CallDeadline { at: deadline, is_first_attempt: round == 0 };
            let answer = match current {
                Some(Redirection { asking: true, .. }) => {
                    send_after_asking(&node, &command, deadline).await?
                }
                _ => node.node.send(&command, deadline).await?,
            };
            current = redirection(&answer, &node.address);
            match &current {
                None => return answer.extract_error().map_err(CallError::Redis),
                Some(Redirection { asking, .. }) if !asking => self.refresh.refresh_soon(),
                Some(_) => {}
            }
        }
        Err(too_many_redirections())
    }

    /// Sends commands as [`Cluster::send`] does, in one pipeline to each node. Answers in the order
    /// of the commands.
    pub(super) async fn send_all(
        &self,
        commands: Vec<KeyedCommand>,
        deadline: Instant,
    ) -> Vec<Result<Value, CallError>> {
        let mut calls = Vec::with_capacity(commands.len());
        for KeyedCommand { key, command } in commands {
            let slot = slot(key.as_bytes());
            calls.push(Call { slot, command, redirection: None, outcome: None });
        }
        for round in 0..=MAX_REDIRECTIONS {
            let batches = self.batches(&mut calls);
            if batches.is_empty() {
                break;
            }
            let deadline = CallDeadline { at: deadline, is_first_attempt: round == 0 };
            for (batch, answers) in send_batches(batches, deadline).await {
                batch.settle(&mut calls, &answers);
            }
            if calls.iter().any(Call::has_moved) {
                self.refresh.refresh_soon();
            }
        }
        let outcome = |call: Call| call.outcome.unwrap_or_else(|| Err(too_many_redirections()));
        calls.into_iter().map(outcome).collect()
    }

    /// Returns the calls without an outcome by node, in their order. A call without a node gets an
    /// error as its outcome.
    fn batches(&self, calls: &mut [Call]) -> Vec<Batch> {
        let mut batches = BTreeMap::new();
        for (index, call) in calls.iter_mut().enumerate() {
            if call.outcome.is_some() {
                continue;
            }
            let redirection = call.redirection.take();
            let is_asking = redirection.as_ref().is_some_and(|redirection| redirection.asking);
            match self.find_node(call.slot, redirection.as_ref()) {
                Ok(node) => {
                    let batch: &mut Batch =
                        batches.entry(node.address.clone()).or_insert_with(|| Batch::new(node));
                    batch.add(index, call.command.clone(), is_asking);
                }
                Err(error) => call.outcome = Some(Err(error)),
            }
        }
        batches.into_values().collect()
    }

    /// Returns the node of a redirection, or else of a slot.
    fn find_node(
        &self,
        slot: usize,
        redirection: Option<&Redirection>,
    ) -> Result<Arc<ClusterNode>, CallError> {
        let node = match redirection {
            Some(redirection) => self.refresh.node_at(&redirection.to),
            None => self.refresh.map().owner(slot),
        };
        node.ok_or_else(|| {
            if self.refresh.map().is_empty() {
                return io::ErrorKind::NotConnected.into();
            }
            cluster_error(ServerErrorKind::ClusterDown, "no server has the slot of this key")
        })
    }
}

impl Call {
    /// Returns whether another node has the slot from now on.
    fn has_moved(&self) -> bool {
        self.redirection.as_ref().is_some_and(|redirection| !redirection.asking)
    }
}

fn too_many_redirections() -> CallError {
    let detail = "the servers redirect this command from one to the other";
    cluster_error(ServerErrorKind::TryAgain, detail)
}

fn cluster_error(kind: ServerErrorKind, detail: &'static str) -> CallError {
    CallError::Redis(RedisError::from((ErrorKind::Server(kind), detail)))
}

/// Returns the error of a pipeline with fewer answers than commands, which the client library rules
/// out.
fn missing_answer() -> CallError {
    let detail = "a pipeline has fewer answers than commands";
    CallError::Redis(RedisError::from((ErrorKind::UnexpectedReturnType, detail)))
}

/// Sends ASKING, which applies to the next command of the connection, and the command.
async fn send_after_asking(
    node: &ClusterNode,
    command: &Cmd,
    deadline: CallDeadline,
) -> Result<Value, CallError> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("ASKING").add_command(command.clone());
    let mut answers = node.node.send_all(&pipeline, deadline).await?;
    answers.pop().ok_or_else(missing_answer)
}

type Answers = Result<Vec<Value>, CallError>;

/// Sends all batches at the same time.
async fn send_batches(mut batches: Vec<Batch>, deadline: CallDeadline) -> Vec<(Batch, Answers)> {
    if batches.len() > 1 {
        let mut tasks = JoinSet::new();
        for batch in batches {
            tasks.spawn(batch.send(deadline).with_current_context());
        }
        return tasks.join_all().await;
    }
    // Most batches are for one node, and need no task.
    match batches.pop() {
        Some(batch) => vec![batch.send(deadline).await],
        None => vec![],
    }
}

impl Batch {
    fn new(node: Arc<ClusterNode>) -> Self {
        Self { node, pipeline: Pipeline::new(), members: vec![] }
    }

    fn add(&mut self, call: usize, command: Cmd, is_asking: bool) {
        if is_asking {
            // ASKING applies to the next command of the connection.
            self.pipeline.cmd("ASKING");
        }
        self.members.push(Member { call, answer: self.pipeline.len() });
        self.pipeline.add_command(command);
    }

    async fn send(self, deadline: CallDeadline) -> (Self, Answers) {
        let answers = self.node.node.send_all(&self.pipeline, deadline).await;
        (self, answers)
    }

    /// Writes the answers to their calls.
    fn settle(&self, calls: &mut [Call], answers: &Answers) {
        for member in &self.members {
            let Some(call) = calls.get_mut(member.call) else { continue };
            let answer = match answers {
                Ok(answers) => answers.get(member.answer).cloned().ok_or_else(missing_answer),
                Err(error) => Err(error.clone()),
            };
            if let Ok(answer) = &answer {
                call.redirection = redirection(answer, &self.node.address);
            }
            if call.redirection.is_none() {
                let value = |answer: Value| answer.extract_error().map_err(CallError::Redis);
                call.outcome = Some(answer.and_then(value));
            }
        }
    }
}
