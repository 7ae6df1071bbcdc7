//! Lookups of the addresses of hosts, in a bounded number of threads.
//!
//! The resolver of the system blocks a thread, for half a minute where no name server answers, and
//! cannot be cancelled. Attempts to connect time out long before, and further attempts follow: each
//! of them would leave a blocked thread.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// One permit for each lookup that runs. Further lookups wait until their attempt to connect times
/// out.
static PERMITS: Semaphore = Semaphore::const_new(8);

/// Returns the addresses of a host.
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let ask = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
    run_in_thread(&PERMITS, ask).await
}

/// Runs blocking work once a permit is available.
async fn run_in_thread<T: Send + 'static>(
    permits: &'static Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // The thread has the permit, because it continues when this future is dropped.
    let permit = permits.acquire().await.map_err(io::Error::other)?;
    let work = move || {
        let outcome = work();
        drop(permit);
        outcome
    };
    spawn_blocking(work).await?
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use tokio::{sync::Semaphore, time::timeout};

    use super::{lookup, run_in_thread};

    #[tokio::test]
    async fn addresses_and_names_are_found() {
        for host in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(host.parse().unwrap(), 7);
            assert_eq!(lookup(host, 7).await.unwrap(), [address]);
        }
        assert!(lookup("localhost", 7).await.unwrap().iter().all(|at| at.ip().is_loopback()));
        assert!(lookup("no host has this name", 7).await.is_err());
    }

    #[tokio::test]
    async fn work_whose_caller_is_gone_keeps_its_permit() {
        static PERMITS: Semaphore = Semaphore::const_new(2);
        let (begun, count) = (Arc::new(AtomicUsize::new(0)), 20);
        let mut ends = vec![];
        for _ in 0..count {
            let (begun, (end, wait)) = (Arc::clone(&begun), mpsc::channel::<()>());
            ends.push(end);
            let work = run_in_thread(&PERMITS, move || {
                begun.fetch_add(1, Ordering::SeqCst);
                // Ends when the test drops the sender.
                let _ = wait.recv();
                Ok(())
            });
            assert!(timeout(Duration::from_millis(5), work).await.is_err());
        }
        assert!(begun.load(Ordering::SeqCst) <= 2, "{begun:?} at once");
        drop(ends);
        assert_eq!(run_in_thread(&PERMITS, || Ok(7)).await.unwrap(), 7);
    }
}
