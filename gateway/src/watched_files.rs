//! Files that are read again when they change, and at SIGHUP, so that keys and certificates can be
//! replaced without a restart.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

use store::{LogThrottle, Sums};

/// How often files are looked at. They are compared by their content, which also works for links
/// that are turned to another file, as Kubernetes does with secrets.
const PERIOD: Duration = Duration::from_secs(1);

/// What some files say, as it was when they last made sense.
#[derive(Debug, Clone)]
pub struct WatchedFiles<T> {
    current: watch::Receiver<Arc<T>>,
}

/// Why files cannot be used: one line that names the file and the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFileError(String);

impl fmt::Display for WatchedFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WatchedFileError {}

impl<T: Send + Sync + 'static> WatchedFiles<T> {
    /// Reads the files, and again whenever one of them changes. `parse` gets their contents in the
    /// order of `paths`. Later contents that it refuses are logged, and the former ones stay in
    /// use. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When a file cannot be read now, or `parse` refuses its content.
    pub fn load<const N: usize>(
        paths: [PathBuf; N],
        parse: impl Fn([&[u8]; N]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, WatchedFileError> {
        let hangup = signal(SignalKind::hangup());
        let hangup = hangup.map_err(|error| WatchedFileError(format!("SIGHUP: {error}")))?;
        let contents = read_all(&paths).map_err(WatchedFileError)?;
        let first = parse(contents.each_ref().map(Vec::as_slice));
        let first =
            first.map_err(|fault| WatchedFileError(format!("{}: {fault}", names(&paths))))?;
        let (sender, current) = watch::channel(Arc::new(first));
        tokio::spawn(async move {
            tokio::select! {
                () = follow(&paths, contents, hangup, &parse, &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Self { current })
    }

    /// What the files say.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }
}

/// Messages about a former content that stays in use.
const UNREADABLE: &str = "cannot read a file again; the former content is used";
const REFUSED: &str = "a change cannot be used; the former content is";

async fn follow<T, const N: usize>(
    paths: &[PathBuf; N],
    mut contents: [Vec<u8>; N],
    mut hangup: Signal,
    parse: &impl Fn([&[u8]; N]) -> Result<T, String>,
    sender: &watch::Sender<Arc<T>>,
) {
    let mut failures = LogThrottle::new();
    // Why the contents are not in use.
    let mut refused: Option<String> = None;
    loop {
        let is_asked = tokio::select! {
            () = sleep(PERIOD) => false,
            _ = hangup.recv() => true,
        };
        if is_asked {
            // Its sender is to see all that is wrong now.
            failures.end();
        }
        match read_all(paths) {
            Err(fault) => report(&mut failures, &fault, UNREADABLE),
            Ok(read) if read == contents && !is_asked => match &refused {
                Some(fault) => report(&mut failures, fault, REFUSED),
                None => {
                    if failures.end().is_some() {
                        tracing::info!(files = names(paths), "can be read again");
                    }
                }
            },
            Ok(read) => {
                contents = read;
                match parse(contents.each_ref().map(Vec::as_slice)) {
                    Ok(value) => {
                        (refused, failures) = (None, LogThrottle::new());
                        tracing::info!(files = names(paths), "read again");
                        sender.send_replace(Arc::new(value));
                    }
                    Err(fault) => {
                        let fault = format!("{}: {fault}", names(paths));
                        report(&mut failures, &fault, REFUSED);
                        refused = Some(fault);
                    }
                }
            }
        }
    }
}

fn report(failures: &mut LogThrottle, fault: &str, message: &'static str) {
    if let Some(Sums { seconds, .. }) = failures.record_error(fault, Instant::now()) {
        tracing::error!(fault, seconds, "{message}");
    }
}

/// The files are small and local: reading them blocks for no longer than any other work here.
fn read_all<const N: usize>(paths: &[PathBuf; N]) -> Result<[Vec<u8>; N], String> {
    let read = |path: &PathBuf| fs::read(path).map_err(|error| fault(path, &error));
    let mut contents = [const { Vec::new() }; N];
    for (content, path) in contents.iter_mut().zip(paths) {
        *content = read(path)?;
    }
    Ok(contents)
}

fn fault(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::{fs, str, time::Duration};

    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::WatchedFiles;

    fn parse([content]: [&[u8]; 1]) -> Result<u32, String> {
        str::from_utf8(content)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or("no number".to_owned())
    }

    /// Long enough for every file to be looked at again, in paused time.
    async fn a_while() {
        sleep(Duration::from_secs(2)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_seen_and_nonsense_is_not() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("number");
        fs::write(&path, "1").unwrap();
        let number = WatchedFiles::load([path.clone()], parse).unwrap();
        assert_eq!(*number.current(), 1);

        fs::write(&path, "2").unwrap();
        a_while().await;
        assert_eq!(*number.current(), 2);
        fs::write(&path, "two").unwrap();
        a_while().await;
        assert_eq!(*number.current(), 2);
        fs::remove_file(&path).unwrap();
        a_while().await;
        assert_eq!(*number.current(), 2);
        fs::write(&path, "3").unwrap();
        a_while().await;
        assert_eq!(*number.current(), 3);
    }

    #[tokio::test]
    async fn the_first_content_must_make_sense() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("number");
        let error = WatchedFiles::load([path.clone()], parse).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: No such file", path.display())), "{error}");
        fs::write(&path, "one").unwrap();
        let error = WatchedFiles::load([path.clone()], parse).unwrap_err().to_string();
        assert_eq!(error, format!("{}: no number", path.display()));
    }
}
