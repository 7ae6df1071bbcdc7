//! Reading the file of policies again when it changes, and at SIGHUP.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use policies::Policies;
use store::{LogThrottle, Store, Sums};
use tokio::{signal::unix::Signal, sync::watch, task::spawn_blocking, time::sleep};

use super::{
    load::{LoadError, Loader},
    metrics,
    probe::{Probe, accept, probe},
    state::{Fault, FileState},
};

/// Interval between two reads. A change is a change of the content, which also works for links that
/// Kubernetes sets to another file.
const PERIOD: Duration = Duration::from_millis(400);

/// Interval between two reads that must agree: programs write a file in pieces, and the first half of
/// a list is a list.
const SETTLING: Duration = Duration::from_millis(50);

/// Interval between two questions about limits that Redis has refused: its settings can change while it
/// runs.
const REFUSED_PERIOD: Duration = Duration::from_secs(5);

/// The most names of policies, or remarks, in the log about one load.
const LOGGED: usize = 20;

/// A content of the file, or the reason why the file has none.
type Content = Result<Vec<u8>, LoadError>;

/// The part that reads the file again and again.
#[derive(Debug)]
pub(super) struct Watcher {
    loader: Arc<Loader>,
    /// The last content that was read.
    content: Arc<Content>,
    store: Arc<Store>,
    /// False until Redis has answered whether it accepts the limits in force.
    accepted: bool,
    /// The start of the last probe that Redis answered.
    probed: ProbeStart,
    sender: watch::Sender<FileState>,
    failures: LogThrottle,
}

/// The start of a probe.
#[derive(Debug, Clone, Copy)]
struct ProbeStart {
    time: Instant,
    /// The number of connections that were made until then.
    connections: u64,
}

impl ProbeStart {
    fn now(store: &Store) -> Self {
        Self { time: Instant::now(), connections: store.connections_made() }
    }
}

impl Watcher {
    /// Returns the watcher of a file whose first content is this one.
    pub(super) fn new(
        loader: Arc<Loader>,
        content: Content,
        store: Arc<Store>,
        accepted: bool,
        sender: watch::Sender<FileState>,
    ) -> Self {
        let (content, failures) = (Arc::new(content), LogThrottle::new());
        // Without a connection: the probe before the start may have been on an earlier one.
        let probed = ProbeStart { time: Instant::now(), connections: 0 };
        Self { loader, content, store, accepted, probed, sender, failures }
    }

    /// Reads the file until nothing needs the policies.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        loop {
            let is_asked = tokio::select! {
                () = sleep(PERIOD) => false,
                _ = hangup.recv() => true,
                () = self.sender.closed() => return,
            };
            if is_asked {
                // The operator who sent the signal needs the current error in the log.
                self.failures.end();
            }
            let Some(read) = read(&self.loader).await else { return };
            if read != *self.content || is_asked {
                let Some(settled) = settle(&self.loader, read).await else { return };
                self.content = Arc::new(settled);
                let Some(loaded) = load(&self.loader, &self.content).await else { return };
                let probed = ProbeStart::now(&self.store);
                let (loaded, accepted) = accept(loaded, &self.store).await;
                self.conclude(loaded, accepted, probed).await;
                continue;
            }
            self.probe_again().await;
            let fault = self.sender.borrow().fault.clone();
            if let Some(fault) = fault {
                self.report(&fault);
            }
        }
    }

    /// Puts loaded policies into force, or reports their error. Redis has `accepted` the limits, or has
    /// not answered; it was asked at `probed`.
    async fn conclude(
        &mut self,
        loaded: Result<Policies, LoadError>,
        accepted: bool,
        probed: ProbeStart,
    ) {
        match loaded {
            Ok(policies) => {
                (self.accepted, self.probed) = (accepted, probed);
                self.failures = LogThrottle::new();
                metrics::count_load(metrics::LOADED);
                log_load(self.loader.path(), &policies, Some(&self.sender.borrow().policies));
                self.sender.send_replace(FileState::loaded(policies));
                keep(&self.loader, &self.content).await;
            }
            Err(error) => {
                let policies = Arc::clone(&self.sender.borrow().policies);
                let is_in_force = matches!(error, LoadError::RefusedByRedis(_))
                    && (*self.content).as_ref().is_ok_and(|file| policies.are_of(file));
                self.fail(Fault { is_in_force, ..Fault::now(error) });
            }
        }
    }

    /// Asks Redis again about the limits in force: until the first answer, after each failure and on
    /// each new connection, because it can be another Redis with other settings, and now and then while
    /// Redis refuses limits.
    async fn probe_again(&mut self) {
        let since = self.probed.time.elapsed();
        let has_failed = self.store.last_failure().is_some_and(|failure| failure.age <= since);
        // A connection that was lost between two calls makes no call fail.
        let is_connected_anew = self.store.connections_made() != self.probed.connections;
        let is_refused = self.refusal().is_some() && since >= REFUSED_PERIOD;
        if self.accepted && !has_failed && !is_connected_anew && !is_refused {
            return;
        }
        let probed = ProbeStart::now(&self.store);
        let policies = Arc::clone(&self.sender.borrow().policies);
        match probe(&self.store, &policies).await {
            Probe::Unanswered => {}
            Probe::Accepted => {
                (self.accepted, self.probed) = (true, probed);
                self.load_refused().await;
            }
            Probe::Refused(refusals) => {
                (self.accepted, self.probed) = (true, probed);
                let error = LoadError::RefusedByRedis(refusals);
                // The same refusal is no other fault.
                if self.refusal().is_none_or(|known| *known != error) {
                    self.fail(Fault { is_in_force: true, ..Fault::now(error) });
                }
            }
        }
    }

    /// Loads the content of the file again if Redis has refused its limits.
    async fn load_refused(&mut self) {
        let Some(known) = self.refusal() else { return };
        let Some(loaded) = load(&self.loader, &self.content).await else { return };
        let probed = ProbeStart::now(&self.store);
        match accept(loaded, &self.store).await {
            // Without an answer the refusal holds.
            (Ok(_), false) => {}
            (Err(error), _) if error == *known => {}
            (loaded, accepted) => self.conclude(loaded, accepted, probed).await,
        }
    }

    /// Returns the present error if Redis refuses limits.
    fn refusal(&self) -> Option<Arc<LoadError>> {
        let state = self.sender.borrow();
        let error = state.fault.as_ref().map(|fault| Arc::clone(&fault.error));
        error.filter(|error| matches!(**error, LoadError::RefusedByRedis(_)))
    }

    fn fail(&mut self, fault: Fault) {
        metrics::count_failure(&fault.error);
        self.report(&fault);
        self.sender.send_modify(|state| state.fault = Some(fault));
    }

    fn report(&mut self, fault: &Fault) {
        let error = format!("{}: {}", self.loader.path().display(), fault.error);
        if let Some(Sums { seconds, .. }) = self.failures.record_error(&error, Instant::now()) {
            let line = match fault.is_in_force {
                true => "Redis refuses limits of the policies in force",
                false => "the policies have an error; the former ones are in force",
            };
            tracing::error!(error, seconds, "{line}");
        }
    }
}

/// Reads the file; `None` when the process is about to end.
async fn read(loader: &Arc<Loader>) -> Option<Content> {
    let loader = Arc::clone(loader);
    spawn_blocking(move || loader.read()).await.ok()
}

/// Reads the file until two reads agree.
async fn settle(loader: &Arc<Loader>, mut content: Content) -> Option<Content> {
    loop {
        sleep(SETTLING).await;
        let again = read(loader).await?;
        if again == content {
            return Some(again);
        }
        content = again;
    }
}

/// Loads a content on a thread of its own: a large file takes longer than a request may wait.
async fn load(loader: &Arc<Loader>, content: &Arc<Content>) -> Option<Result<Policies, LoadError>> {
    let (loader, content) = (Arc::clone(loader), Arc::clone(content));
    let load = move || match &*content {
        Ok(content) => loader.load_to_serve(content),
        Err(error) => Err(error.clone()),
    };
    spawn_blocking(load).await.ok()
}

/// Keeps a content that loaded. The policies are in force also when the content cannot be kept.
async fn keep(loader: &Arc<Loader>, content: &Arc<Content>) {
    let (loader, content) = (Arc::clone(loader), Arc::clone(content));
    let keep = move || match &*content {
        Ok(content) => loader.keep(content),
        Err(_) => Ok(()),
    };
    if let Ok(Err(error)) = spawn_blocking(keep).await {
        tracing::error!(%error, "cannot write POLICIES_CACHE_FILE");
    }
}

/// Logs a load of a file, with the policies that are no more: a file that lost its end is a file.
pub(super) fn log_load(file: &Path, policies: &Policies, former: Option<&Policies>) {
    let (file, version) = (file.display(), policies.version());
    let former = former.map_or(&[][..], Policies::policies).iter();
    let removed = former.filter(|former| policies.policy(&former.name).is_none());
    let removed = removed.map(|policy| &*policy.name).take(LOGGED).collect::<Vec<_>>().join(", ");
    let removed = Some(removed).filter(|names| !names.is_empty());
    let count = policies.policies().len();
    tracing::info!(%file, version, policies = count, removed, "policies loaded");
    for warning in policies.warnings().iter().take(LOGGED) {
        tracing::warn!(%file, "{warning}");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc, time::Duration};

    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::{Loader, settle};
    use crate::policy_file::options::PolicyOptions;

    #[tokio::test(start_paused = true)]
    async fn a_content_counts_when_two_reads_agree() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("limits.yaml");
        let options = PolicyOptions {
            file: file.clone(),
            cache_file: None,
            hash_key: None,
            tokens: None,
            logs_decisions: false,
        };
        let loader = Arc::new(Loader::new(&options));
        fs::write(&file, "half").unwrap();
        let half = loader.read();
        let write = async {
            sleep(Duration::from_millis(30)).await;
            fs::write(&file, "half and half").unwrap();
        };
        let (settled, ()) = tokio::join!(settle(&loader, half), write);
        assert_eq!(settled, Some(Ok(b"half and half".to_vec())));
    }
}
