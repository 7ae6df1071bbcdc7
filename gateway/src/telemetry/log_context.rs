//! The fields that all log lines of one request share.
//!
//! Spans of `tracing` could have these fields, but a span formats and stores its fields also when
//! there is no line. With a span, a request with one line took a tenth longer.

use std::{net::IpAddr, sync::OnceLock};

use tokio::task_local;

use super::request_id::RequestId;

task_local! {
    static CURRENT: LogContext;
}

/// The name of the context in log lines.
pub(super) const NAME: &str = "request";

/// The request that log lines are about.
#[derive(Debug, Clone)]
pub(crate) struct LogContext {
    id: RequestId,
    trace_id: Option<String>,
    client: Option<String>,
    /// Set when the caller is identified, or when that fails.
    caller: OnceLock<String>,
    refusal: OnceLock<&'static str>,
    /// Set when policies have decided.
    policy: OnceLock<Box<PolicyFields>>,
}

/// The parts of the policies that have decided a request.
#[derive(Debug, Clone)]
struct PolicyFields {
    policy: Option<String>,
    plan: Option<String>,
    violated: Option<String>,
}

/// The address of the client of a request. Requests have it when the log must have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// The name of a field that the text form of the log has without quotes.
pub(super) const UNQUOTED: &str = "caller";

impl LogContext {
    /// Returns the context of a request with this id, with the id of its trace if there is one, and
    /// with the address of its client if the log must have it.
    pub(crate) fn new(
        id: RequestId,
        trace_id: Option<String>,
        client: Option<ClientAddress>,
    ) -> Self {
        let (caller, refusal, policy) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        // A socket that listens on IPv6 has addresses of IPv4 in the form of IPv6.
        let client = client.map(|ClientAddress(address)| address.to_canonical().to_string());
        Self { id, trace_id, client, caller, refusal, policy }
    }

    /// Runs work whose log lines have this context.
    pub(crate) fn attach<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// Runs synchronous work whose log lines have this context.
    pub(crate) fn attach_call<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Runs work in another task, whose log lines have the context of the current task.
    pub(crate) fn attach_current<F: Future>(work: F) -> impl Future<Output = F::Output> {
        let current = CURRENT.try_with(Self::clone).ok();
        async {
            match current {
                Some(context) => context.attach(work).await,
                None => work.await,
            }
        }
    }

    /// Returns the result of `read` for the context of the current task, if there is one.
    pub(super) fn with_current<T>(read: impl FnOnce(&Self) -> T) -> Option<T> {
        CURRENT.try_with(read).ok()
    }

    /// Returns the fields that are set, with their names.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let policy = self.policy.get();
        let fields = [
            ("request_id", Some(self.id.as_str())),
            ("trace_id", self.trace_id.as_deref()),
            ("client", self.client.as_deref()),
            (UNQUOTED, self.caller.get().map(String::as_str)),
            ("refusal", self.refusal.get().copied()),
            ("policy", policy.and_then(|fields| fields.policy.as_deref())),
            ("plan", policy.and_then(|fields| fields.plan.as_deref())),
            ("violated", policy.and_then(|fields| fields.violated.as_deref())),
        ];
        fields.into_iter().filter_map(|(name, field)| Some((name, field?)))
    }
}

/// Returns the id of the current request, if there is one.
pub(crate) fn current_request_id() -> Option<String> {
    LogContext::with_current(|context| context.id.as_str().to_owned())
}

/// Adds the caller to the log lines of the current request.
pub(crate) fn log_caller(caller: String) {
    LogContext::with_current(|context| context.caller.set(caller));
}

/// Adds the reason why the caller is unknown to the log lines of the current request.
pub(crate) fn log_refusal(refusal: &'static str) {
    LogContext::with_current(|context| context.refusal.set(refusal));
}

/// Adds the policy, the plan and the reasons of a denial to the log lines of the current request.
pub(crate) fn log_policy(policy: Option<String>, plan: Option<String>, violated: &[String]) {
    let violated = (!violated.is_empty()).then(|| violated.join(" "));
    let fields = Box::new(PolicyFields { policy, plan, violated });
    LogContext::with_current(|context| context.policy.set(fields));
}
