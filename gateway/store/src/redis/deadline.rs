//! Deadlines that distinguish a late server from a late process.
//!
//! A call to Redis also waits in this process: until the call is written, and until the answer is
//! read. A process with too little processor time, or with too many requests at once, is late with
//! both, so that a server that answered in time seems silent. Therefore the time of a call is divided
//! into slices, and a timer ends each slice:
//!
//! ```text
//!   |── slice ──|── slice ──|──── slice ────|late|── slice ──|
//!      counts      counts     does not count        counts
//! ```
//!
//! A slice counts if its timer was on time, and if the driver of the connection was idle in the
//! slice, so that it had written and read everything. The server is late once slices of its whole
//! time have counted.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

/// The number of slices of a call.
const SLICES: u32 = 8;

/// Shortest slice: timers tick in milliseconds.
const SHORTEST_SLICE: Duration = Duration::from_millis(1);

/// The longest delay of the timer of a short slice that counts.
const SHORTEST_TOLERANCE: Duration = Duration::from_millis(5);

/// The part that is late with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The server, which had its whole time.
    Server,
    /// This process, so that nothing is known of the server.
    Process,
}

/// The deadline of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallDeadline {
    /// The time at which the call ends.
    pub(super) at: Instant,
    /// True if no other server had a part of the time. On a redirected attempt the deadline may pass
    /// through no fault of the server, so that its connections are kept.
    pub(super) is_first_attempt: bool,
}

/// Waits for an answer until the server has had `time`, or until `latest`. `driver_was_idle` returns
/// whether the driver of the connection was idle since the last call of `driver_was_idle`.
pub(super) async fn wait_for_answer<F: Future>(
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
        if let Ok(answer) = timeout_at(begin + length, answer.as_mut()).await {
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

    use super::{Overdue, wait_for_answer};

    const TIME: Duration = Duration::from_millis(100);

    /// Stops the whole process for `length` milliseconds, at the first poll after `begin`.
    async fn stall(begin: u64, length: u64) {
        sleep(Duration::from_millis(begin)).await;
        advance(Duration::from_millis(length)).await;
        pending::<()>().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_has_its_whole_time_and_no_more() {
        for time in [1, 7, 100, 60_000].map(Duration::from_millis) {
            let begin = Instant::now();
            let outcome =
                wait_for_answer(time, Some(begin + 2 * time), || true, pending::<()>()).await;
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
        assert_eq!(wait_for_answer(TIME, None, || true, answer).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_of_the_process_takes_nothing_from_the_time_of_the_server() {
        let begin = Instant::now();
        let latest = begin + Duration::from_secs(10);
        let outcome = wait_for_answer(TIME, Some(latest), || true, stall(30, 500)).await;
        assert_eq!(outcome, Err(Overdue::Server));
        assert!(begin.elapsed() >= Duration::from_millis(500) + TIME * 7 / 8);

        // The answer arrives while the process stands still.
        let mut polls = 0;
        let late = poll_fn(|_| {
            polls += 1;
            if polls > 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let outcome = tokio::select! {
            outcome = wait_for_answer(TIME, None, || true, late) => outcome,
            () = stall(30, 500) => unreachable!("it never ends"),
        };
        assert_eq!(outcome, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_driver_does_not_run_is_no_fault_of_the_server() {
        let begin = Instant::now();
        let latest = Some(begin + 2 * TIME);
        let outcome = wait_for_answer(TIME, latest, || false, pending::<()>()).await;
        assert_eq!(outcome, Err(Overdue::Process));

        let mut slices = 0;
        let reads_late = || {
            slices += 1;
            slices > 4
        };
        let begin = Instant::now();
        let outcome = wait_for_answer(TIME, None, reads_late, pending::<()>()).await;
        assert_eq!(outcome, Err(Overdue::Server));
        assert!(begin.elapsed() >= TIME * 3 / 2, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_always_late_is_overdue_itself() {
        let always_late = async {
            loop {
                sleep(Duration::from_millis(10)).await;
                advance(Duration::from_millis(60)).await;
            }
        };
        let begin = Instant::now();
        let outcome = tokio::select! {
            outcome = wait_for_answer(TIME, Some(begin + 2 * TIME), || true, pending::<()>()) => outcome,
            () = always_late => unreachable!("it never ends"),
        };
        assert_eq!(outcome, Err(Overdue::Process));
        assert!(begin.elapsed() >= 2 * TIME && begin.elapsed() < 4 * TIME);
    }
}
