//! The program: runs the command of the command line.

#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    io::{self, ErrorKind, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use mimalloc::MiMalloc;
#[cfg(feature = "envoy")]
use ratelimit_gateway::grpc::listener::GrpcListener;
use ratelimit_gateway::{
    apps,
    authz::Authz,
    callers::{self, Callers},
    command_line::Command,
    crypto, hash_value,
    health_check::{self, Probe},
    import_file::{self, Imported},
    openapi_document, policies_schema,
    policy_file::{
        FirstRead, PolicyFile,
        command::{self, Explained},
        decisions::PolicyDecisions,
    },
    replay_log,
    server::{
        Server,
        options::{AdminOptions, ListenOptions},
        stopping::{Signals, Stopping},
        tls::{self, Protocol},
    },
    settings::{self, Settings},
    startup_error::StartupError,
    state::AppState,
    telemetry::{self, Series},
    watched_files::WatchedFiles,
};
use rustls::ServerConfig;
use store::Store;
use tokio::runtime::Builder;

/// An allocator that takes less than half of the instructions of the system's allocator, and less memory
/// because it does not use huge pages. Its version 2 leaves more of a check in the caches of the processor
/// than version 3.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code for invalid settings and invalid words on the command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let outcome = match Command::parse(&words.collect::<Vec<_>>(), &settings::table()) {
        Ok(command) => run(command),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            if error.is::<StartupError>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    crypto::install();
    match command {
        Command::Serve => serve_until_signal(Settings::load()?)?,
        Command::HealthCheck(probe) => check_health(&Settings::load()?, probe)?,
        Command::CheckConfig { connect } => check_settings(&Settings::load()?, connect)?,
        Command::NewApiKey { name, scopes } => {
            let (key, entry) = callers::new_api_key(&name, &scopes)
                .map_err(|error| StartupError::about("new-api-key", error))?;
            print(&format!("{key}\n{entry}\n"))?;
        }
        Command::PrintOpenApi => print(&format!("{}\n", openapi_document()))?,
        Command::PrintSchema => print(&format!("{}\n", policies_schema()))?,
        Command::Explain(words) => {
            let (hash_key, prefix) = (settings::hash_key()?, settings::key_prefix()?);
            let Explained { text, allowed, note } = command::explain(&words, hash_key, &prefix)?;
            if let Some(note) = note {
                eprintln!("{note}");
            }
            print(&text)?;
            return Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Replay(words) => print(&replay_log::run(&words, settings::hash_key()?.as_ref())?)?,
        Command::Hash => {
            print(&hash_value::run(io::stdin().lock(), settings::hash_key()?.as_ref())?)?;
        }
        Command::Import { path } => {
            let Imported { file, notes } = import_file::run(&path)?;
            eprint!("{notes}");
            print(&file)?;
        }
        Command::Print(text) => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a text. The reader can close the pipe before the end, as `head` does.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Reads the files for HTTPS, and reads them again whenever they change.
fn watch_tls(options: &ListenOptions) -> Result<Option<WatchedFiles<ServerConfig>>, StartupError> {
    let watch = |files| tls::watch(files, options.client_authorities.as_ref(), Protocol::Http1);
    options.tls.as_ref().map(watch).transpose()
}

/// The longest time that reads of files and other work on threads may delay the end of the process. A
/// file system of the network can block a read for ever.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Serves until a signal.
fn serve_until_signal(settings: Settings) -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(LAST_WORK);
    served
}

async fn serve(settings: Settings) -> Result<(), Box<dyn Error>> {
    let _log = telemetry::start_log(settings.log_format, settings.log_level)?;
    let tls = watch_tls(&settings.listen)?;
    let callers = Callers::open(&settings.callers)?;
    let policies = settings.policies.as_ref().map(FirstRead::new).transpose()?;
    let stopping = Stopping::default();
    #[cfg(feature = "envoy")]
    let grpc = GrpcListener::bind(&settings.listen, settings.store.fail_mode).await?;
    let server = Server::bind(&settings.listen, tls, stopping.clone()).await?;
    let signals = Signals::receive()?;
    // Metrics come before the store, which counts its connections there.
    let mut metrics = telemetry::start_metrics(server.max_connections(), &callers::REFUSALS)?;
    store::register_metrics(settings.store.redis.max_backlog);
    let scheme = if settings.listen.tls.is_some() { "https" } else { "http" };
    let _traces = telemetry::start_traces(settings.traces, scheme)
        .map_err(|error| format!("cannot send traces: {error}"))?;
    let store = Store::open(settings.store).map_err(settings::redis_tls_error)?;
    let store = Arc::new(store);
    store.warm_up().await;
    let policies = match policies {
        Some(policies) => Some(policies.watch(&store).await?),
        None => None,
    };
    if let Some(policies) = &policies {
        metrics.add(policies.version_series());
    }
    let policy_decisions = Arc::new(PolicyDecisions::new(policies.as_ref()));
    metrics.add(Arc::clone(&policy_decisions) as Arc<dyn Series>);
    let state = AppState {
        defaults: settings.defaults,
        deny_status: settings.deny_status,
        callers: callers.map(Arc::new),
        policies,
        policy_decisions,
        authz: Authz::new(settings.authz),
        inline_limits: settings.inline_limits,
        allowed_origins: settings.allowed_origins,
        store,
        metrics,
        stopping,
    };
    let state = Arc::new(state);
    let ListenOptions { host, port, admin, grpc_port, authz_port, tls, .. } = settings.listen;
    let apps = apps(&state, admin.is_some(), authz_port.is_some());
    tracing::info!(host, port, tls = tls.is_some(), "listening");
    if let Some(port) = grpc_port {
        tracing::info!(host, port, tls = tls.is_some(), "listening for gRPC");
    }
    if let Some(port) = authz_port {
        tracing::info!(host, port, tls = tls.is_some(), "listening for proxies");
    }
    #[cfg(feature = "envoy")]
    if let Some(grpc) = grpc {
        grpc.serve(&state, &server.drain());
    }
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
async fn check_health(settings: &Settings, probe: Probe) -> Result<(), String> {
    health_check::ask(&settings.listen, probe).await
}

/// Reads every file that a setting names, and with `connect` sends every command to Redis.
#[tokio::main(flavor = "current_thread")]
async fn check_settings(settings: &Settings, connect: bool) -> Result<(), Box<dyn Error>> {
    watch_tls(&settings.listen)?;
    let callers = Callers::open(&settings.callers)?;
    if let Some(policies) = &settings.policies {
        for remark in PolicyFile::check(policies, None).await? {
            eprintln!("{remark}");
        }
    }
    // Dropping the store ends the task that would connect, before that task runs.
    drop(Store::open(settings.store.clone()).map_err(settings::redis_tls_error)?);
    if !connect {
        print("settings ok\n")?;
        return Ok(());
    }
    let servers = store::check_connection(&settings.store, callers.is_some()).await?;
    if let Some(policies) = &settings.policies {
        let store = Store::open(settings.store.clone()).map_err(settings::redis_tls_error)?;
        store.warm_up().await;
        PolicyFile::check(policies, Some(&store)).await?;
    }
    print(&match servers {
        None => "settings ok; memory:// needs no Redis\n".to_owned(),
        Some(1) => "settings ok; Redis ok: 1 server\n".to_owned(),
        Some(count) => format!("settings ok; Redis ok: {count} servers\n"),
    })?;
    Ok(())
}
