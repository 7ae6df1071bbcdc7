//! Clients that send checks to gateways without a pause, and the record of every answer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::http::{Connection, Response, kept_request};
use super::wait::{self, StopOnDrop, eventually, with_stall};

/// Clients with one connection each, which a client reopens when the gateway closes it.
pub(crate) struct Traffic {
    gateways: Vec<SocketAddr>,
    connections: usize,
    pause: Duration,
    body: Box<dyn Fn(usize) -> String + Sync>,
}

/// One check.
#[derive(Clone, Debug)]
struct Call {
    /// Index of the gateway in the list.
    gateway: usize,
    begin: Instant,
    /// Duration until the whole answer was received.
    time: Duration,
    /// `None` when the connection ended without an answer.
    answer: Option<Answer>,
}

/// The answer of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// True if the answer is a decision that grants the requested units.
    pub(crate) allowed: bool,
    /// The store that decided; `None` when the answer is no decision.
    pub(crate) source: Option<&'static str>,
    /// True if the answer has a `Retry-After` header.
    pub(crate) retry_after: bool,
}

impl Traffic {
    /// Creates eight clients, spread over these gateways. Each client checks one unit of a separate
    /// identifier until the scenario ends.
    pub(crate) fn on(gateways: &[&Gateway]) -> Self {
        Self {
            gateways: gateways.iter().map(|gateway| gateway.address()).collect(),
            connections: 8,
            pause: Duration::ZERO,
            body: Box::new(|client| {
                format!(r#"{{"identifier": "client-{client}", "limit": 1000000}}"#)
            }),
        }
    }

    /// Sets the number of clients.
    pub(crate) fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the pause between an answer and the next check of a client.
    pub(crate) fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets the body that the client with this number sends.
    pub(crate) fn body(mut self, body: impl Fn(usize) -> String + Sync + 'static) -> Self {
        self.body = Box::new(body);
        self
    }

    /// Runs `scenario` while the clients check.
    pub(crate) fn during(&self, scenario: impl FnOnce(&Progress<'_>)) -> Record {
        let (calls, stop) = (Mutex::new(vec![]), AtomicBool::new(false));
        let progress = Progress { calls: &calls };
        let run = || {
            thread::scope(|scope| {
                for client in 0..self.connections {
                    let stop = &stop;
                    scope.spawn(move || self.check_until(stop, client, progress));
                }
                // The guard stops the clients also when the scenario panics, because the scope
                // waits for its threads.
                let stop = StopOnDrop(&stop);
                scenario(&progress);
                drop(stop);
            });
        };
        let ((), stall) = with_stall(run);
        Record { calls: calls.into_inner().expect("no client panicked"), stall }
    }

    fn check_until(&self, stop: &AtomicBool, client: usize, progress: Progress<'_>) {
        let gateway = client % self.gateways.len();
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let headers = [("Content-Type", "application/json")];
            let body = (self.body)(client);
            let request = kept_request("POST", "/rate-limit/check", &headers, &body);
            let begin = Instant::now();
            let answer = self.gateways.get(gateway).and_then(|&address| {
                let mut open = connection.take().or_else(|| Connection::open(address).ok())?;
                let response = open.exchange(&request).ok()?;
                connection = Some(open);
                Some(Answer::read(&response))
            });
            let call = Call { gateway, begin, time: begin.elapsed(), answer };
            progress.calls().push(call);
            thread::sleep(self.pause);
        }
    }
}

/// The results of the checks so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress<'a> {
    calls: &'a Mutex<Vec<Call>>,
}

impl<'a> Progress<'a> {
    /// Waits until `count` more checks have ended.
    pub(crate) fn more(&self, count: usize) {
        let enough = self.calls().len() + count;
        eventually("more checks end", || (self.calls().len() >= enough).then_some(()));
    }

    /// Waits until each of the first `gateways` gateways gave an answer for which `is` returns
    /// true, to a check that began after this call.
    pub(crate) fn until(&self, what: &str, gateways: usize, is: impl Fn(&Answer) -> bool) {
        let now = Instant::now();
        let mut seen = 0;
        let mut missing: Vec<_> = (0..gateways).collect();
        eventually(what, || {
            let calls = self.calls();
            for call in calls.iter().skip(seen).filter(|call| call.begin >= now) {
                if call.answer.as_ref().is_some_and(&is) {
                    missing.retain(|&gateway| gateway != call.gateway);
                }
            }
            seen = calls.len();
            missing.is_empty().then_some(())
        });
    }

    fn calls(&self) -> MutexGuard<'a, Vec<Call>> {
        self.calls.lock().expect("no client panics while it writes")
    }
}

/// The checks of a period.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    calls: Vec<Call>,
    stall: Duration,
}

impl Record {
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns the time that a busy machine may have added to one check.
    pub(crate) fn slack(&self) -> Duration {
        wait::slack(self.stall)
    }

    /// Returns the longest time for which a thread had to wait for the machine.
    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    /// Returns the checks that began and ended in this period.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Self {
        self.only(|call| call.begin >= from && call.begin + call.time <= to)
    }

    /// Returns the checks that began in this period.
    pub(crate) fn begun_between(&self, from: Instant, to: Instant) -> Self {
        self.only(|call| (from..to).contains(&call.begin))
    }

    /// Returns the checks that ended in this period.
    #[allow(dead_code, reason = "benches/outage.rs calls it")]
    pub(crate) fn ended_between(&self, from: Instant, to: Instant) -> Self {
        self.only(|call| (from..to).contains(&(call.begin + call.time)))
    }

    /// Returns the checks with answers for which `is` returns true.
    pub(crate) fn with(&self, is: impl Fn(&Answer) -> bool) -> Self {
        self.only(|call| call.answer.as_ref().is_some_and(&is))
    }

    fn only(&self, is: impl Fn(&Call) -> bool) -> Self {
        let calls = self.calls.iter().filter(|call| is(call)).cloned().collect();
        Self { calls, stall: self.stall }
    }

    /// Returns the answers, in no particular order.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.calls.iter().filter_map(|call| call.answer.as_ref())
    }

    /// Returns the number of checks without an answer.
    pub(crate) fn lost(&self) -> usize {
        self.calls.iter().filter(|call| call.answer.is_none()).count()
    }

    /// Returns the time at which the first answer was received.
    #[allow(dead_code, reason = "benches/outage.rs calls it")]
    pub(crate) fn first_end(&self) -> Option<Instant> {
        self.calls.iter().map(|call| call.begin + call.time).min()
    }

    /// Returns the time that this share of the checks, in thousandths, did not exceed.
    pub(crate) fn time(&self, thousandths: usize) -> Duration {
        let mut times: Vec<_> = self.calls.iter().map(|call| call.time).collect();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        let place = (times.len() * thousandths).div_ceil(1000).saturating_sub(1).min(last);
        times.get(place).copied().unwrap_or_default()
    }

    /// Returns the longest duration of a check.
    pub(crate) fn longest(&self) -> Duration {
        self.time(1000)
    }
}

impl fmt::Display for Record {
    /// Writes the number of checks, their durations and their results in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [500, 990, 1000].map(|thousandths| self.time(thousandths));
        write!(f, "{} checks, {} lost, ", self.len(), self.lost())?;
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}, stall {:.1?}", self.stall)?;
        let mut kinds: Vec<(Answer, usize)> = vec![];
        for answer in self.answers() {
            match kinds.iter_mut().find(|(kind, _)| kind == answer) {
                Some((_, count)) => *count += 1,
                None => kinds.push((*answer, 1)),
            }
        }
        for (Answer { status, allowed, source, .. }, count) in kinds {
            let outcome = if allowed { "allowed" } else { "not allowed" };
            write!(f, "; {count} of {status} {outcome} by {}", source.unwrap_or("nobody"))?;
        }
        Ok(())
    }
}

impl Answer {
    fn read(response: &Response) -> Self {
        let decided = response.header("X-RateLimit-Limit").is_some();
        let source = match response.header("X-RateLimit-Source") {
            None if decided => Some("redis"),
            None => None,
            Some(name) => {
                let known = ["local", "cache", "open"].into_iter().find(|known| *known == name);
                Some(known.unwrap_or_else(|| panic!("no source is called {name}")))
            }
        };
        Self {
            status: response.status,
            allowed: response.body.contains(r#""allowed":true"#),
            source,
            retry_after: response.header("Retry-After").is_some(),
        }
    }
}
