//! Connections: accepted, bounded in time, and drained at the end.

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::telemetry;

/// Pause after a failed accept: when file descriptors have run out, trying again at once would
/// only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a server waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the head of the next request; also how long an idle connection is kept.
    pub head: Duration,
    /// For requests that are still running after `stop`.
    pub drain: Duration,
}

/// Longest wait for the head of a request. Longer than proxies keep idle connections (60 s), so
/// that none sends a request into a connection that is being closed.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(75);

/// Serves until `stop`, then lets running requests finish. Answers whether all of them did.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    patience: Patience,
    stop: impl Future<Output = ()>,
) -> bool {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.head);
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = &mut stop => break,
        };
        let service = TowerToHyperService::new(app.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _open = telemetry::http_connection();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    timeout(patience.drain, connections.shutdown()).await.is_ok()
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and sent whole; waiting to fill packets only delays them.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use axum::Router;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use super::{Patience, serve};

    #[tokio::test]
    async fn a_head_that_does_not_end_is_given_up() {
        const SHORT: Duration = Duration::from_millis(50);
        const LONG: Duration = Duration::from_secs(30);

        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let patience = Patience { head: SHORT, drain: LONG };
        tokio::spawn(serve(listener, Router::new(), patience, pending()));

        client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let begin = Instant::now();
        // Whether the connection ends with an answer, an end or a reset does not matter.
        let _ = client.read_to_end(&mut vec![]).await;
        assert!((SHORT..LONG).contains(&begin.elapsed()));
    }
}
