//! The words after the program's name.

use crate::{config, health_check::Probe};

/// What the program is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve until a signal.
    Serve,
    /// Ask the service that runs with these settings for its health.
    HealthCheck(Probe),
    /// Read the settings and the files that they name.
    CheckConfig {
        /// Whether to send every command to Redis as well.
        connect: bool,
    },
    /// Print a new key of a caller, and its entry for API_KEYS_FILE.
    NewApiKey {
        /// What the caller is called.
        name: String,
        /// What it may do.
        scopes: Vec<String>,
    },
    /// Print the OpenAPI document.
    PrintOpenApi,
    /// Print what the program does and every setting.
    Help,
    /// Print the version.
    Version,
}

/// What `--help` says about each command: how it is written, and what it does.
const COMMANDS: [(&str, &str); 9] = [
    ("", "Serve until SIGTERM or SIGINT."),
    (
        "healthcheck",
        "Ask the service that runs with these settings whether it is ready: exit 0 if it is, else 1.",
    ),
    (
        "healthcheck --live",
        "Ask it whether it serves requests at all, also while Redis cannot be reached.",
    ),
    (
        "--check-config",
        "Read the settings and the files that they name: exit 0 if they can be used, else 2.",
    ),
    (
        "--check-config --connect",
        "Do so, and test the login, the module and the rights of the user on every server of Redis \
         that has keys, without a change: exit 0 if all is well, 1 if not.",
    ),
    (
        "new-api-key NAME SCOPE[,SCOPE...]",
        "Print a new key for a caller, and below it the entry for API_KEYS_FILE. Scopes are check, \
         read and reset.",
    ),
    ("--print-openapi", "Print the OpenAPI document."),
    ("--help", "Print this."),
    ("--version", "Print the version."),
];

impl Command {
    /// The command that the words after the program's name stand for.
    ///
    /// # Errors
    ///
    /// When they stand for none: one line to be printed.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        match words[..] {
            [] => Ok(Self::Serve),
            ["healthcheck"] => Ok(Self::HealthCheck(Probe::Ready)),
            ["healthcheck", "--live"] => Ok(Self::HealthCheck(Probe::Live)),
            ["--check-config"] => Ok(Self::CheckConfig { connect: false }),
            ["--check-config", "--connect"] => Ok(Self::CheckConfig { connect: true }),
            ["new-api-key", name, scopes] => Ok(Self::NewApiKey {
                name: name.to_owned(),
                scopes: scopes.split(',').map(str::to_owned).collect(),
            }),
            ["--print-openapi"] => Ok(Self::PrintOpenApi),
            ["--help" | "-h"] => Ok(Self::Help),
            ["--version" | "-V"] => Ok(Self::Version),
            _ => Err(format!("{:?} is not a command; see --help", words.join(" "))),
        }
    }
}

/// What `--help` prints.
#[must_use]
pub fn help() -> String {
    let mut text = "HTTP API over the RATELIMIT commands of Redis.\n\n".to_owned();
    for (words, meaning) in COMMANDS {
        text += format!("  ratelimit-gateway {words}").trim_end();
        text += &format!("\n      {meaning}\n");
    }
    text += "\nSettings are environment variables, or lines of .env in the working directory:\n\n";
    text + &config::help()
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, Command, help};

    fn parse(line: &str) -> Result<Command, String> {
        Command::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_help_names_every_command() {
        for (words, meaning) in COMMANDS {
            assert!(parse(words).is_ok(), "{words}");
            assert!(help().contains(&format!("ratelimit-gateway {words}").trim_end().to_owned()));
            assert!(help().contains(meaning), "{words}");
        }
    }

    #[test]
    fn words_that_stand_for_nothing_are_refused() {
        for line in ["--port", "serve", "healthcheck now", "--help --version", "--HELP"] {
            let refusal = format!("{line:?} is not a command; see --help");
            assert_eq!(parse(line), Err(refusal));
        }
    }
}
