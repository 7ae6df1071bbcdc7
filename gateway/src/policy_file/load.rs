//! Reading the file of policies, and keeping the last version that loaded.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use limiter::Instant;
use policies::{LoadOptions, Policies, attribute::AttributeName, problem::Problem};
use store::local_file;

use super::options::PolicyOptions;

/// The reason why the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    Unreadable(String),
    /// The file has these faults; at least one.
    Refused(Vec<Problem>),
    /// Redis refuses limits of the file: a fault for each, at least one.
    RefusedByRedis(Vec<Problem>),
    /// The file reads this claim, and no setting names the keys that verify tokens.
    WithoutTokens(String),
}

/// The setting that names the keys that verify tokens of end users.
pub(super) const TOKEN_SETTING: &str = "IDENTITY_JWKS_FILE";

impl fmt::Display for LoadError {
    /// Writes one line. A line of the log, and of the start, is one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = match self {
            Self::Unreadable(error) => return f.write_str(error),
            Self::WithoutTokens(claim) => {
                return write!(f, "no request has `{claim}` without the setting {TOKEN_SETTING}");
            }
            Self::Refused(problems) | Self::RefusedByRedis(problems) => problems,
        };
        /// The faults to name; the others are counted.
        const NAMED: usize = 10;
        for (index, problem) in problems.iter().take(NAMED).enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        match problems.len().checked_sub(NAMED) {
            None | Some(0) => Ok(()),
            Some(others) => write!(f, "; {others} more"),
        }
    }
}

/// The file of policies, and the file that keeps the last version that loaded.
#[derive(Debug)]
pub(super) struct Loader {
    options: PolicyOptions,
}

impl Loader {
    /// Returns the loader of the files that the options name.
    pub(super) fn new(options: &PolicyOptions) -> Self {
        Self { options: options.clone() }
    }

    /// Returns the path of the file of policies.
    pub(super) fn path(&self) -> &Path {
        &self.options.file
    }

    /// Returns the path of the file that keeps the last version that loaded.
    pub(super) fn kept_path(&self) -> Option<&Path> {
        self.options.cache_file.as_deref()
    }

    /// Reads the file of policies.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unreadable`].
    pub(super) fn read(&self) -> Result<Vec<u8>, LoadError> {
        local_file::read(&self.options.file)
            .map_err(|error| LoadError::Unreadable(error.to_string()))
    }

    /// Returns the policies in a content of the file.
    ///
    /// # Errors
    ///
    /// [`LoadError::Refused`].
    pub(super) fn load(&self, content: &[u8]) -> Result<Policies, LoadError> {
        let options = LoadOptions {
            // The store writes the prefix.
            key_prefix: String::new(),
            hash_key: self.options.hash_key.clone(),
            require_end: false,
            now: now(),
        };
        Policies::load(content, &options)
            .map_err(|error| LoadError::Refused(error.problems().to_vec()))
    }

    /// Returns the policies in a content of the file, for a service with these options.
    ///
    /// # Errors
    ///
    /// [`LoadError::Refused`] and [`LoadError::WithoutTokens`].
    pub(super) fn load_to_serve(&self, content: &[u8]) -> Result<Policies, LoadError> {
        let policies = self.load(content)?;
        let claim = policies.reads().find(|name| matches!(name, AttributeName::Claim(_)));
        match claim.map(ToString::to_string) {
            Some(claim) if self.options.tokens.is_none() => Err(LoadError::WithoutTokens(claim)),
            _ => Ok(policies),
        }
    }

    /// Returns the version that loaded last, or the reason why it cannot be used; `None` if none was
    /// kept.
    pub(super) fn load_kept(&self) -> Option<Result<Policies, LoadError>> {
        let content = local_file::read(self.options.cache_file.as_ref()?).ok()?;
        Some(self.load_to_serve(&content))
    }

    /// Keeps a content that loaded. A crash leaves the former content or this one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(super) fn keep(&self, content: &[u8]) -> io::Result<()> {
        let Some(path) = &self.options.cache_file else { return Ok(()) };
        if local_file::read(path).is_ok_and(|kept| kept == content) {
            return Ok(());
        }
        let mut new = path.clone().into_os_string();
        // Gateways can share the directory.
        new.push(format!(".{}.new", process::id()));
        let new = PathBuf::from(new);
        let written = write(&new, content).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // The file may not exist.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Returns the time of the system.
pub(crate) fn now() -> Instant {
    // A time before 1970 is wrong, and any time is as good.
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::from_micros(u64::try_from(unix.as_micros()).unwrap_or(u64::MAX))
}
