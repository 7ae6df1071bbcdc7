//! Does what the command line asks for: serves, or answers a question about the program.

use std::{
    env,
    error::Error,
    io::{self, ErrorKind, Write},
    process::ExitCode,
    sync::Arc,
};

use mimalloc::MiMalloc;
use ratelimit_gateway::{
    AppState, apps,
    callers::{self, Callers},
    command_line::{self, Command},
    config::{AdminOptions, ListenOptions, Settings, SettingsError},
    crypto, health_check, openapi_document,
    server::{Server, Signals, Stopping, tls},
    store::Store,
    telemetry::{self, Capacities},
};

/// Takes half of the time of the system's allocator, and less memory, as it has no huge pages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code for settings and words that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let outcome = match Command::parse(&words.collect::<Vec<_>>()) {
        Ok(command) => run(command),
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(USAGE);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            if error.is::<SettingsError>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    crypto::install();
    match command {
        Command::Serve => serve(Settings::load()?)?,
        Command::HealthCheck => check_health(&Settings::load()?)?,
        Command::CheckConfig => check_settings(Settings::load()?)?,
        Command::NewApiKey { name, scopes } => {
            let (key, entry) = callers::new_api_key(&name, &scopes)
                .map_err(|fault| SettingsError::about("new-api-key", fault))?;
            print(&format!("{key}\n{entry}\n"))?;
        }
        Command::PrintOpenApi => print(&format!("{}\n", openapi_document()))?,
        Command::Help => print(&command_line::help())?,
        Command::Version => print(concat!("ratelimit-gateway ", env!("CARGO_PKG_VERSION"), "\n"))?,
    }
    Ok(())
}

/// Prints for a reader that may have enough before the end, as `head` has.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

#[tokio::main]
async fn serve(settings: Settings) -> Result<(), Box<dyn Error>> {
    let _log = telemetry::start_log(settings.log_format, settings.log_level)?;
    let tls = settings.listen.tls.as_ref().map(tls::watch).transpose()?;
    let callers = Callers::open(&settings.callers)?;
    let stopping = Stopping::default();
    let server = Server::bind(&settings.listen, tls, stopping.clone()).await?;
    let signals = Signals::receive()?;
    // Before the store, which shows its connections there.
    let metrics = telemetry::start_metrics(Capacities {
        redis_backlog: settings.store.redis.max_backlog,
        http_connections: server.max_connections(),
    })?;
    let scheme = if settings.listen.tls.is_some() { "https" } else { "http" };
    let _traces = telemetry::start_traces(settings.traces, scheme)
        .map_err(|error| format!("traces cannot be sent: {error}"))?;
    let store = Store::open(settings.store)?;
    store.warm_up().await;
    let state = AppState {
        defaults: settings.defaults,
        deny_status: settings.deny_status,
        callers: callers.map(Arc::new),
        allowed_origins: settings.allowed_origins,
        store,
        metrics,
        stopping,
    };
    let ListenOptions { host, port, admin, tls, .. } = settings.listen;
    let apps = apps(state, admin.is_some());
    tracing::info!(host, port, tls = tls.is_some(), "listening");
    if let Some(AdminOptions { host, port }) = admin {
        tracing::info!(host, port, "listening for probes and operators");
    }

    if server.run(apps, settings.shutdown, signals).await {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with requests still running; see SHUTDOWN_TIMEOUT_MS");
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn check_health(settings: &Settings) -> Result<(), String> {
    health_check::ask(&settings.listen).await
}

/// Reads every file that a setting names, just as serving does. What that starts in the background
/// never runs, since nothing is waited for here: no connection is opened.
#[tokio::main(flavor = "current_thread")]
async fn check_settings(settings: Settings) -> Result<(), Box<dyn Error>> {
    settings.listen.tls.as_ref().map(tls::watch).transpose()?;
    Callers::open(&settings.callers)?;
    Store::open(settings.store)?;
    print("settings ok\n")?;
    Ok(())
}
