//! Turns for long work, so that short work does not wait for it.
//!
//! A runtime runs tasks in turn, and polls sockets when no task is ready, or after some dozens of
//! tasks. When hundreds of tasks are ready and each computes for a millisecond, a request on an open
//! connection waits for all of them. With turns only a few are ready at a time, and the others wait
//! outside the queue of the runtime.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use tokio::{
    sync::{Notify, Semaphore},
    task::yield_now,
};

/// Turns to work. A few can be taken at once.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Turns {
    /// Returns turns of which `at_once` can be taken at once, at least one.
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Semaphore::new(at_once.max(1)))
    }

    /// Runs work, each step of it in a turn. Work that waits, for a client for example, has no turn
    /// meanwhile.
    pub(crate) async fn take<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        loop {
            // The semaphore is never closed.
            let turn = self.0.acquire().await;
            let step = work.as_mut().poll(&mut Context::from_waker(&waker));
            // The turn ends after the runtime has polled the sockets.
            yield_now().await;
            drop(turn);
            match step {
                Poll::Ready(output) => return output,
                Poll::Pending => wakes.0.notified().await,
            }
        }
    }
}

/// Stores a wake of some work while its task waits for another event.
#[derive(Debug, Default)]
struct Wakes(Notify);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use tokio::{
        sync::oneshot,
        task::{JoinSet, yield_now},
        time::timeout,
    };

    use super::Turns;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_work_at_once_than_there_are_turns() {
        let (turns, running) = (Arc::new(Turns::new(2)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..40 {
            let (turns, running) = (Arc::clone(&turns), Arc::clone(&running));
            tasks.spawn(async move {
                let work = async {
                    for _ in 0..3 {
                        let others = running.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(1));
                        running.fetch_sub(1, Ordering::SeqCst);
                        assert!(others < 2, "{others} others work");
                        yield_now().await;
                    }
                };
                turns.take(work).await;
            });
        }
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn work_that_waits_takes_no_turn() {
        let turns = Arc::new(Turns::new(1));
        let (sender, receiver) = oneshot::channel();
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(receiver).await }
        });
        yield_now().await;
        let other = timeout(Duration::from_secs(10), turns.take(async { 7 }));
        assert_eq!(other.await, Ok(7));
        sender.send(8).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(8));
    }
}
