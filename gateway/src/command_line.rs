//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use jiff::Timestamp;
use limiter::Instant;

use crate::{health_check::Probe, replay_log::ReplayWords, startup_error::StartupError};

const PROGRAM: &str = "ratelimit-gateway";

const SETTINGS: &str =
    "Settings are environment variables, or lines of .env in the working directory";

/// The section of the manual for programs of administrators.
const MANUAL_SECTION: &str = "8";

/// A setting, as the help and the manual describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub name: String,
    /// The value when the variable is unset.
    pub default: String,
    /// The values that the setting takes.
    pub range: String,
    /// The meaning.
    pub meaning: String,
}

/// A command of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve until a signal.
    Serve,
    /// Ask the service that runs with these settings for its health.
    HealthCheck(Probe),
    /// Read the settings and the files that they name.
    CheckConfig {
        /// True to send every command to Redis as well.
        connect: bool,
    },
    /// Print a new key of a caller, and its entry for API_KEYS_FILE.
    NewApiKey {
        /// The name of the caller.
        name: String,
        /// The scopes of the caller.
        scopes: Vec<String>,
    },
    /// Print the OpenAPI document.
    PrintOpenApi,
    /// Print the JSON Schema of a file of policies.
    PrintSchema,
    /// Explain a request by a file of policies.
    Explain(ExplainWords),
    /// Decide the requests of a log by policies, and print a report.
    Replay(ReplayWords),
    /// Print the digest of a secret value, which is the input.
    Hash,
    /// Convert a configuration of another service into policies.
    Import {
        /// The configuration.
        path: PathBuf,
    },
    /// Print a text about the program: help, version, completions or the manual.
    Print(String),
}

/// A request to explain by a file of policies.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExplainWords {
    /// The file of policies
    pub file: PathBuf,

    /// Attributes of the request, such as method=POST path=/login client.ip=192.0.2.7 jwt.sub=ann
    #[arg(value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,

    /// The policy that the request names
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,

    /// The time of the request, such as 2026-12-24T18:00:00+01:00, in place of now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<Instant>,
}

/// The words after the name of the program.
#[derive(Parser)]
#[command(
    name = "ratelimit-gateway",
    about = "HTTP API over the RATELIMIT commands of Redis. Without a command it serves until \
             SIGTERM or SIGINT.",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Words {
    /// Read the settings and the files that they name: exit 0 if they can be used, else 2
    #[arg(long)]
    check_config: bool,

    /// Test Redis as well: the login, the module and the rights of the user on every server that
    /// has keys, without a change: exit 0 if all is well, 1 if not
    #[arg(long, requires = "check_config")]
    connect: bool,

    /// Print the OpenAPI document
    #[arg(long, conflicts_with = "check_config")]
    print_openapi: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Ask the service that runs with these settings whether it is ready: exit 0 if it is, else 1
    #[command(name = "healthcheck")]
    HealthCheck {
        /// Ask whether it serves requests at all, also while Redis cannot be reached
        #[arg(long)]
        live: bool,
    },
    /// Print a new key for a caller, and below it the entry for API_KEYS_FILE
    NewApiKey {
        /// The name of the caller
        name: String,
        /// The scopes of the caller, with commas between them: check, read, reset, force
        scopes: String,
    },
    /// Print the JSON Schema of a file of policies
    Schema,
    /// Explain a request by a file of policies, without Redis: exit 0 if the limits decide or the
    /// request is allowed, 1 if it is denied, 2 for an error
    Explain(ExplainWords),
    /// Decide the requests of a log by a file of policies, without Redis, and print a report
    Replay(ReplayWords),
    /// Print the digest of a secret value, for `by` of an override: the value is the input, and the key
    /// of the digest is IDENTITY_HASH_KEY
    Hash,
    /// Print policies made of a configuration of envoyproxy/ratelimit or limitador, and on the error
    /// output the differences
    Import {
        /// The configuration: a file, or a directory with a file for each domain
        path: PathBuf,
    },
    /// Print a script that completes these words in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the page for man
    Man,
}

impl Command {
    /// Reads the words after the name of the program.
    ///
    /// # Errors
    ///
    /// When they are no command: one line to be printed.
    pub fn parse(words: &[String], settings: &[Setting]) -> Result<Self, StartupError> {
        let words = [PROGRAM.to_owned()].into_iter().chain(words.iter().cloned());
        let matches =
            match command().after_help(settings_help(settings)).try_get_matches_from(words) {
                Err(error) if !error.use_stderr() => return Ok(Self::Print(error.to_string())),
                matches => matches.map_err(usage)?,
            };
        Ok(Self::of(Words::from_arg_matches(&matches).map_err(usage)?, settings))
    }

    fn of(words: Words, settings: &[Setting]) -> Self {
        let Words { check_config, connect, print_openapi, action } = words;
        match action {
            Some(Action::HealthCheck { live: true }) => Self::HealthCheck(Probe::Live),
            Some(Action::HealthCheck { live: false }) => Self::HealthCheck(Probe::Ready),
            Some(Action::NewApiKey { name, scopes }) => {
                Self::NewApiKey { name, scopes: scopes.split(',').map(str::to_owned).collect() }
            }
            Some(Action::Schema) => Self::PrintSchema,
            Some(Action::Explain(words)) => Self::Explain(words),
            Some(Action::Replay(words)) => Self::Replay(words),
            Some(Action::Hash) => Self::Hash,
            Some(Action::Import { path }) => Self::Import { path },
            Some(Action::Completions { shell }) => Self::Print(completions(shell)),
            Some(Action::Man) => Self::Print(manual(settings)),
            None if check_config => Self::CheckConfig { connect },
            None if print_openapi => Self::PrintOpenApi,
            None => Self::Serve,
        }
    }
}

fn attribute(word: &str) -> Result<(String, String), &'static str> {
    let (name, value) = word.split_once('=').ok_or("an attribute is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn instant(word: &str) -> Result<Instant, &'static str> {
    let time: Result<Timestamp, _> = word.parse();
    let micros = time.ok().and_then(|time| u64::try_from(time.as_microsecond()).ok());
    micros.map(Instant::from_micros).ok_or("a time has a form such as 2026-12-24T18:00:00+01:00")
}

fn command() -> clap::Command {
    Words::command()
}

fn usage(error: clap::Error) -> StartupError {
    StartupError::from(error).with_advice("see --help")
}

fn settings_help(settings: &[Setting]) -> String {
    let mut text = format!("{SETTINGS}:\n");
    for Setting { name, default, range, meaning } in settings {
        let default = if default.is_empty() { "nothing" } else { default };
        text += &format!("\n  {name}\n      {meaning}\n      {range}; by default {default}");
    }
    text
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Returns the page of the manual as roff. Settings are environment variables, which clap has no
/// section for.
fn manual(settings: &[Setting]) -> String {
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]).text([roman(format!("{SETTINGS}."))]);
    for Setting { name, default, range, meaning } in settings {
        let default = if default.is_empty() { "nothing" } else { default };
        section
            .control("TP", [])
            .text([bold(name.as_str())])
            .text([roman(format!("{meaning} Takes {range}; by default {default}."))]);
    }
    let page = Man::new(command()).section(MANUAL_SECTION);
    let mut text = Vec::new();
    // Writing into memory cannot fail.
    let _ = page.render(&mut text).and_then(|()| section.to_writer(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Command, Probe, Words};
    use crate::settings::table;

    fn parse(line: &str) -> Result<Command, String> {
        let words = line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Command::parse(&words, &table()).map_err(|error| error.to_string())
    }

    fn printed(line: &str) -> String {
        match parse(line) {
            Ok(Command::Print(text)) => text,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_valid() {
        Words::command().debug_assert();
    }

    #[test]
    fn every_command_is_read() {
        for (line, command) in [
            ("", Command::Serve),
            ("healthcheck", Command::HealthCheck(Probe::Ready)),
            ("healthcheck --live", Command::HealthCheck(Probe::Live)),
            ("--check-config", Command::CheckConfig { connect: false }),
            ("--check-config --connect", Command::CheckConfig { connect: true }),
            ("--print-openapi", Command::PrintOpenApi),
            ("hash", Command::Hash),
            (
                "new-api-key shop check,read",
                Command::NewApiKey {
                    name: "shop".to_owned(),
                    scopes: ["check", "read"].map(str::to_owned).into(),
                },
            ),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn words_that_are_no_command_are_refused_with_one_line() {
        for (line, reason) in [
            ("--port", "unexpected argument '--port' found"),
            ("serve", "unrecognized subcommand 'serve'"),
            ("healthcheck now", "unexpected argument 'now' found"),
            ("new-api-key", "the following required arguments were not provided: <NAME> <SCOPES>"),
            ("new-api-key shop check read", "unexpected argument 'read' found"),
            ("--connect", "the following required arguments were not provided: --check-config"),
            (
                "--check-config --print-openapi",
                "the argument '--check-config' cannot be used with '--print-openapi'",
            ),
            ("--HELP", "unexpected argument '--HELP' found"),
        ] {
            assert_eq!(parse(line), Err(format!("{reason}; see --help")));
        }
    }

    #[test]
    fn the_help_and_the_manual_name_every_command_and_setting() {
        let (help, manual) = (printed("--help"), printed("man"));
        assert_eq!(printed("-h"), help);
        for name in ["healthcheck", "new-api-key", "replay", "hash", "import", "completions", "man"]
        {
            assert!(help.contains(&format!("\n  {name} ")), "{name} in {help}");
            assert!(manual.contains(&name.replace('-', "\\-")), "{name} in {manual}");
        }
        for row in table() {
            assert!(help.contains(&format!("\n  {}\n      {}\n", row.name, row.meaning)));
            assert!(manual.contains(&format!("\\fB{}\\fR\n", row.name)), "{manual}");
        }
    }

    #[test]
    fn completions_name_every_option() {
        for shell in ["bash", "zsh", "fish"] {
            let script = printed(&format!("completions {shell}"));
            for word in ["healthcheck", "new-api-key", "print-openapi", "check-config"] {
                assert!(script.contains(word), "{word} for {shell}");
            }
        }
    }
}
