//! Looks up the addresses of hosts, in few threads.
//!
//! The resolver of the system blocks a thread, for half a minute where no name server answers, and
//! cannot be cancelled. Attempts to connect are given up long before, and others follow: each of
//! them would leave a thread behind.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// A permit for each lookup at once. Others wait for as long as their attempt to connect has time.
static ROOM: Semaphore = Semaphore::const_new(8);

/// The addresses of a host.
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let ask = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
    in_thread(&ROOM, ask).await
}

/// Does work that blocks, when there is room for it.
async fn in_thread<T: Send + 'static>(
    room: &'static Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // The permit goes with the thread, which works on when nothing waits for it any more.
    let permit = room.acquire().await.map_err(io::Error::other)?;
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

    use super::{in_thread, lookup};

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
    async fn work_that_nothing_waits_for_any_more_still_takes_its_room() {
        static ROOM: Semaphore = Semaphore::const_new(2);
        let (begun, count) = (Arc::new(AtomicUsize::new(0)), 20);
        let mut ends = vec![];
        for _ in 0..count {
            let (begun, (end, wait)) = (Arc::clone(&begun), mpsc::channel::<()>());
            ends.push(end);
            let work = in_thread(&ROOM, move || {
                begun.fetch_add(1, Ordering::SeqCst);
                // Until the test ends.
                let _ = wait.recv();
                Ok(())
            });
            assert!(timeout(Duration::from_millis(5), work).await.is_err());
        }
        assert!(begun.load(Ordering::SeqCst) <= 2, "{begun:?} at once");
        drop(ends);
        assert_eq!(in_thread(&ROOM, || Ok(7)).await.unwrap(), 7);
    }
}
