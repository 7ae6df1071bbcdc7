//! Starts the gateway: settings, log, listener, service, drain.

use std::{env, io, process::ExitCode};

use ratelimit_gateway::{
    AppState, app,
    config::{self, ListenOptions, Settings},
    server::{self, HEAD_PATIENCE, Patience},
    store::Store,
    telemetry::{self, Capacities},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Exit code for settings and arguments that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    if let Some(argument) = env::args_os().nth(1) {
        return answer(&argument.to_string_lossy());
    }
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers a question about the program instead of running it.
fn answer(argument: &str) -> ExitCode {
    match argument {
        "--version" | "-V" => println!("ratelimit-gateway {}", env!("CARGO_PKG_VERSION")),
        "--help" | "-h" => print!("{}", config::help()),
        _ => {
            eprintln!("{argument:?} is not an argument; see --help");
            return ExitCode::from(USAGE);
        }
    }
    ExitCode::SUCCESS
}

#[tokio::main]
async fn run(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let _log = telemetry::start_log(settings.log_format, settings.log_level)?;
    let ListenOptions { host, port, .. } = &settings.listen;
    let listener = TcpListener::bind((host.as_str(), *port))
        .await
        .map_err(|error| format!("cannot listen on HOST {host} PORT {port}: {error}"))?;
    let stop = stop_signal()?;
    // Before the store, which shows its connections there.
    let metrics = telemetry::start_metrics(Capacities {
        redis_backlog: settings.store.redis.max_backlog,
        http_connections: settings.listen.max_connections,
    })?;
    let scheme = if settings.listen.tls.is_some() { "https" } else { "http" };
    let _traces = telemetry::start_traces(settings.traces, scheme)?;
    let store = Store::open(settings.store)?;
    store.warm_up().await;
    let app = app(AppState {
        defaults: settings.defaults,
        deny_status: settings.deny_status,
        allowed_origins: settings.allowed_origins,
        store,
        metrics,
    });
    tracing::info!(host, port, "listening");

    let patience = Patience { head: HEAD_PATIENCE, drain: settings.shutdown.timeout };
    if server::serve(listener, app, patience, stop).await {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with requests still running; see SHUTDOWN_TIMEOUT_MS");
    }
    Ok(())
}

/// Resolves at the first SIGTERM or SIGINT after this call.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}
