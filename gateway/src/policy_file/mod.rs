//! The file of policies: the version in force, and the next one when the file changes.
//!
//! A request takes the version in force once, and is judged by that version alone. A file with an error
//! changes nothing: the error is in the log, in a metric and at `GET /policies`.

pub(crate) mod account;
pub mod command;
pub(crate) mod decision_log;
pub mod decisions;
pub(crate) mod end_users;
pub(crate) mod judge;
pub(crate) mod limit_checks;
pub(crate) mod load;
mod metrics;
pub mod options;
pub(crate) mod policy_names;
mod probe;
mod quota_rule;
pub(crate) mod state;
pub(crate) mod states;
mod watch;

use std::sync::Arc;

use policies::Policies;
use store::Store;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch as watch_channel,
};

use self::{
    end_users::EndUserTokens,
    load::{LoadError, Loader, TOKEN_SETTING},
    metrics::VersionSeries,
    options::PolicyOptions,
    probe::accept,
    state::{Fault, FileState},
    watch::Watcher,
};
use crate::{startup_error::StartupError, telemetry::Series, watched_files::WatchedFiles};

/// The setting of the file, for messages.
const SETTING: &str = "POLICIES_FILE";

/// The policies of a file that is read again when it changes.
#[derive(Debug)]
pub struct PolicyFile {
    state: watch_channel::Receiver<FileState>,
    end_users: Option<WatchedFiles<EndUserTokens>>,
    /// True if each decision has a line in the log.
    logs_decisions: bool,
}

/// A file that was read once.
#[derive(Debug)]
pub struct FirstRead {
    loader: Arc<Loader>,
    content: Result<Vec<u8>, LoadError>,
    loaded: Result<Policies, LoadError>,
    end_users: Option<WatchedFiles<EndUserTokens>>,
    logs_decisions: bool,
}

impl FirstRead {
    /// Reads the file, before anything else starts. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When the file has an error and no former version was kept, or when the keys of end users cannot
    /// be read.
    pub fn new(options: &PolicyOptions) -> Result<Self, StartupError> {
        let end_users = end_users(options)?;
        let loader = Arc::new(Loader::new(options));
        let content = loader.read();
        let loaded = content.clone().and_then(|content| loader.load_to_serve(&content));
        match &loaded {
            // The setting is wrong, whatever was kept.
            Err(error @ LoadError::WithoutTokens(_)) => return Err(file_error(&loader, error)),
            Err(error) => drop(kept(&loader, error)?),
            Ok(_) => {}
        }
        let logs_decisions = options.logs_decisions;
        Ok(Self { loader, content, loaded, end_users, logs_decisions })
    }

    /// Puts the policies into force, and loads the file again whenever it changes. The store answers
    /// whether Redis accepts the limits. Needs the runtime and the metrics.
    ///
    /// # Errors
    ///
    /// When Redis refuses a limit and no former version was kept, or when a version cannot be kept.
    pub async fn watch(self, store: &Arc<Store>) -> Result<PolicyFile, StartupError> {
        metrics::register();
        let hangup = signal(SignalKind::hangup());
        let hangup = hangup.map_err(|error| StartupError::about("SIGHUP", error))?;
        let Self { loader, content, loaded, end_users, logs_decisions } = self;
        let (loaded, accepted) = accept(loaded, store).await;
        let state = first_state(&loader, &content, loaded)?;
        let file = if state.fault.is_none() { Some(loader.path()) } else { loader.kept_path() };
        if let Some(file) = file {
            watch::log_load(file, &state.policies, None);
        }
        let (sender, state) = watch_channel::channel(state);
        let watcher = Watcher::new(loader, content, Arc::clone(store), accepted, sender);
        tokio::spawn(watcher.run(hangup));
        Ok(PolicyFile { state, end_users, logs_decisions })
    }
}

impl PolicyFile {
    /// Reads the files that the options name, and changes nothing. With a store, Redis must accept the
    /// limits. Returns the remarks about the policies. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When a file cannot be used, or Redis refuses a limit.
    pub async fn check(
        options: &PolicyOptions,
        store: Option<&Store>,
    ) -> Result<Vec<String>, StartupError> {
        end_users(options)?;
        let loader = Loader::new(options);
        let mut loaded = loader.read().and_then(|content| loader.load_to_serve(&content));
        if let Some(store) = store {
            loaded = accept(loaded, store).await.0;
        }
        let policies = loaded.map_err(|error| file_error(&loader, &error))?;
        let file = loader.path().display();
        let remark = |warning| format!("{SETTING}: {file}: warning: {warning}");
        Ok(policies.warnings().iter().map(remark).collect())
    }

    /// Returns the metric of the version in force.
    #[must_use]
    pub fn version_series(&self) -> Arc<dyn Series> {
        Arc::new(VersionSeries::new(self.states()))
    }

    /// Returns the state of the file, which changes with the file.
    pub(crate) fn states(&self) -> watch_channel::Receiver<FileState> {
        self.state.clone()
    }

    /// Returns the policies in force.
    #[must_use]
    pub fn current(&self) -> Arc<Policies> {
        Arc::clone(&self.state.borrow().policies)
    }

    /// Returns the policies in force, and the error of the file.
    pub(crate) fn state(&self) -> FileState {
        self.state.borrow().clone()
    }

    /// Returns the keys that verify tokens of end users, if there are any.
    pub(crate) fn end_users(&self) -> Option<Arc<EndUserTokens>> {
        self.end_users.as_ref().map(WatchedFiles::current)
    }
}

/// Returns the policies of the first content of the file, or the version that was kept.
fn first_state(
    loader: &Loader,
    content: &Result<Vec<u8>, LoadError>,
    loaded: Result<Policies, LoadError>,
) -> Result<FileState, StartupError> {
    match loaded {
        Ok(policies) => {
            // An operator who set this file relies on it at the next start.
            let kept = content.as_ref().map_or(Ok(()), |content| loader.keep(content));
            kept.map_err(|error| StartupError::about("POLICIES_CACHE_FILE", error))?;
            metrics::count_load(metrics::LOADED);
            Ok(FileState::loaded(policies))
        }
        Err(error) => {
            let kept = kept(loader, &error)?;
            metrics::count_failure(&error);
            let file = loader.path().display();
            let line = "the policies have an error; those of POLICIES_CACHE_FILE are in force";
            tracing::error!(%file, %error, "{line}");
            Ok(FileState { fault: Some(Fault::now(error)), ..FileState::loaded(kept) })
        }
    }
}

/// Returns the version that was kept, for a start with a file that has this error.
fn kept(loader: &Loader, error: &LoadError) -> Result<Policies, StartupError> {
    match loader.load_kept() {
        Some(Ok(kept)) => Ok(kept),
        Some(Err(reason)) => {
            let advice = format!("POLICIES_CACHE_FILE cannot replace it: {reason}");
            Err(file_error(loader, error).with_advice(&advice))
        }
        None => Err(file_error(loader, error)),
    }
}

fn end_users(options: &PolicyOptions) -> Result<Option<WatchedFiles<EndUserTokens>>, StartupError> {
    let Some(tokens) = options.tokens.clone() else { return Ok(None) };
    let path = tokens.jwks_file.clone();
    let parse = move |[content]: [&[u8]; 1]| EndUserTokens::parse(content, &tokens);
    let files = WatchedFiles::load([path], parse);
    files.map(Some).map_err(|error| StartupError::about(TOKEN_SETTING, error))
}

fn file_error(loader: &Loader, error: &LoadError) -> StartupError {
    let file = loader.path().display();
    match error {
        LoadError::WithoutTokens(claim) => {
            let rule = format!("{file} reads `{claim}`, which no request has without this setting");
            StartupError::about(TOKEN_SETTING, rule)
        }
        error => StartupError::about(SETTING, format!("{file}: {error}")),
    }
}
