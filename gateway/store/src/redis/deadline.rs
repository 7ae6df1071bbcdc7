//! Deadlines that tell a late server from a late process.
//!
//! A call to Redis waits in this process as well: until it is written, and until its answer is
//! read. A process that has too little processor time, or too many requests at once, is late with
//! both, and a server that has answered in time would look silent. So the time of a call is cut
//! into slices, and a timer ends each of them:
//!
//! ```text
//!   |── slice ──|── slice ──|──── slice ────|late|── slice ──|
//!      counts      counts     does not count        counts
//! ```
//!
//! A slice counts when its timer was on time, and when the task of the connection has written and
//! read all that there was. A server is silent once slices of its whole time have counted.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

/// Slices of the time of a call.
const SLICES: u32 = 8;

/// Shortest slice: timers tick in milliseconds.
const SHORTEST_SLICE: Duration = Duration::from_millis(1);

/// How late the timer of a short slice may be.
const SHORTEST_TOLERANCE: Duration = Duration::from_millis(5);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The server had its time.
    Server,
    /// This process was late, so that nothing is known of the server.
    Process,
}

/// Waits for an answer until its server has had this time, or until `latest`. `driver_was_idle` returns
/// whether the task of the connection has done its work since the last time.
pub(super) async fn within<F: Future>(
    time: Duration,
    latest: Option<Instant>,
    mut driver_was_idle: impl FnMut() -> bool,
    answer: F,
) -> Result<F::Output, Overdue> {
    let mut answer = pin!(answer);
    let slice = (time / SLICES).max(SHORTEST_SLICE);
    let tolerance = slice.max(SHORTEST_TOLERANCE);
    let mut left = time;
    loop {
        let (begin, length) = (Instant::now(), slice.min(left));
        if let Ok(answer) = timeout(length, answer.as_mut()).await {
            return Ok(answer);
        }
        let end = Instant::now();
        let driver_had_time = driver_was_idle();
        if driver_had_time && end <= begin + length + tolerance {
            left -= length;
        }
        if left.is_zero() {
            return Err(Overdue::Server);
        }
        if latest.is_some_and(|latest| latest <= end) {
            return Err(Overdue::Process);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        task::Poll,
        time::Duration,
    };

    use tokio::time::{Instant, advance, sleep};

    use super::{Overdue, within};

    const TIME: Duration = Duration::from_millis(100);

    /// Keeps the whole process from running for so long, at the first time that it is polled after
    /// the `begin`th millisecond.
    async fn stall(begin: u64, length: u64) {
        sleep(Duration::from_millis(begin)).await;
        advance(Duration::from_millis(length)).await;
        pending::<()>().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_has_its_time_and_no_more() {
        for time in [1, 7, 100, 60_000].map(Duration::from_millis) {
            let begin = Instant::now();
            let outcome = within(time, Some(begin + 2 * time), || true, pending::<()>()).await;
            assert_eq!(outcome, Err(Overdue::Server));
            let passed = begin.elapsed();
            assert!(passed >= time && passed <= time + Duration::from_millis(8), "{passed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_the_answer() {
        let answer = async {
            sleep(Duration::from_millis(99)).await;
            7
        };
        assert_eq!(within(TIME, None, || true, answer).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_of_the_process_takes_nothing_from_the_time_of_the_server() {
        let begin = Instant::now();
        let latest = begin + Duration::from_secs(10);
        let outcome = within(TIME, Some(latest), || true, stall(30, 500)).await;
        assert_eq!(outcome, Err(Overdue::Server));
        assert!(begin.elapsed() >= Duration::from_millis(500) + TIME * 7 / 8);

        // The answer is behind the stall.
        let mut polls = 0;
        let late = poll_fn(|_| {
            polls += 1;
            if polls > 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let outcome = tokio::select! {
            outcome = within(TIME, None, || true, late) => outcome,
            () = stall(30, 500) => unreachable!("it never ends"),
        };
        assert_eq!(outcome, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nothing_reads_says_nothing_of_its_server() {
        let begin = Instant::now();
        let latest = Some(begin + 2 * TIME);
        let outcome = within(TIME, latest, || false, pending::<()>()).await;
        assert_eq!(outcome, Err(Overdue::Process));

        let mut slices = 0;
        let reads_late = || {
            slices += 1;
            slices > 4
        };
        let begin = Instant::now();
        let outcome = within(TIME, None, reads_late, pending::<()>()).await;
        assert_eq!(outcome, Err(Overdue::Server));
        assert!(begin.elapsed() >= TIME * 3 / 2, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_always_late_blames_itself() {
        let always_late = async {
            loop {
                sleep(Duration::from_millis(10)).await;
                advance(Duration::from_millis(60)).await;
            }
        };
        let begin = Instant::now();
        let outcome = tokio::select! {
            outcome = within(TIME, Some(begin + 2 * TIME), || true, pending::<()>()) => outcome,
            () = always_late => unreachable!("it never ends"),
        };
        assert_eq!(outcome, Err(Overdue::Process));
        assert!(begin.elapsed() >= 2 * TIME && begin.elapsed() < 4 * TIME);
    }
}
