//! Files that are read again when they change, and at SIGHUP. Operators can replace keys and
//! certificates without a restart.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

use store::{LogThrottle, Sums, local_file};

/// Interval between two reads. A change is a change of the content, which also works for links that
/// Kubernetes sets to another file.
const PERIOD: Duration = Duration::from_secs(1);

/// The value of some files, from the last contents that were valid.
#[derive(Debug, Clone)]
pub struct WatchedFiles<T> {
    current: watch::Receiver<Arc<T>>,
}

/// The reason why files cannot be used: one line that names the file and the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFileError(String);

impl fmt::Display for WatchedFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WatchedFileError {}

impl<T: Send + Sync + 'static> WatchedFiles<T> {
    /// Reads the files, and reads them again whenever one of them changes. `parse` gets the contents in
    /// the order of `paths`. If `parse` refuses later contents, the error is logged, and the former
    /// value stays. Needs the runtime.
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
            first.map_err(|error| WatchedFileError(format!("{}: {error}", names(&paths))))?;
        let (sender, current) = watch::channel(Arc::new(first));
        tokio::spawn(async move {
            tokio::select! {
                () = watch(&paths, contents, hangup, &parse, &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Self { current })
    }

    /// Returns the current value.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }
}

/// Messages about a former content that stays in use.
const UNREADABLE: &str = "cannot read a file again; the former content is used";
const REFUSED: &str = "a changed file is not valid; the former content is used";

async fn watch<T, const N: usize>(
    paths: &[PathBuf; N],
    mut contents: [Vec<u8>; N],
    mut hangup: Signal,
    parse: &impl Fn([&[u8]; N]) -> Result<T, String>,
    sender: &watch::Sender<Arc<T>>,
) {
    let mut failures = LogThrottle::new();
    // The error of the current contents, if `parse` refused them.
    let mut refusal: Option<String> = None;
    loop {
        let is_asked = tokio::select! {
            () = sleep(PERIOD) => false,
            _ = hangup.recv() => true,
        };
        if is_asked {
            // The operator who sent the signal needs all current errors in the log.
            failures.end();
        }
        match read_all(paths) {
            Err(error) => report(&mut failures, &error, UNREADABLE),
            Ok(read) if read == contents && !is_asked => match &refusal {
                Some(error) => report(&mut failures, error, REFUSED),
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
                        (refusal, failures) = (None, LogThrottle::new());
                        tracing::info!(files = names(paths), "read again");
                        sender.send_replace(Arc::new(value));
                    }
                    Err(error) => {
                        let error = format!("{}: {error}", names(paths));
                        report(&mut failures, &error, REFUSED);
                        refusal = Some(error);
                    }
                }
            }
        }
    }
}

fn report(failures: &mut LogThrottle, error: &str, message: &'static str) {
    if let Some(Sums { seconds, .. }) = failures.record_error(error, Instant::now()) {
        tracing::error!(error, seconds, "{message}");
    }
}

/// Reads all files. They are small and local, so that this blocks no longer than other work here.
fn read_all<const N: usize>(paths: &[PathBuf; N]) -> Result<[Vec<u8>; N], String> {
    let read = |path: &PathBuf| local_file::read(path).map_err(|error| read_error(path, &error));
    let mut contents = [const { Vec::new() }; N];
    for (content, path) in contents.iter_mut().zip(paths) {
        *content = read(path)?;
    }
    Ok(contents)
}

fn read_error(path: &Path, error: &io::Error) -> String {
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

    /// Waits until every file is read again, in paused time.
    async fn a_while() {
        sleep(Duration::from_secs(2)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_change_is_used_and_an_invalid_one_is_not() {
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
    async fn the_first_content_must_be_valid() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("number");
        let error = WatchedFiles::load([path.clone()], parse).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: No such file", path.display())), "{error}");
        fs::write(&path, "one").unwrap();
        let error = WatchedFiles::load([path.clone()], parse).unwrap_err().to_string();
        assert_eq!(error, format!("{}: no number", path.display()));
    }
}
