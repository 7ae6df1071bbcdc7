//! What proxies do while the gateway or Redis is away, and that nothing is lost when they come back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::example::{Proxy, Site, client_address};
use crate::harness::{Connection, StopOnDrop, eventually, http_connect_from, kept_request};

const POLICIES: &str = "
version: 1
policies:
  - {name: site, by: [], limits: [{name: rate, limit: 1000000, per: 365d}]}
";

/// The answers that clients have had so far, by status.
#[derive(Default)]
struct Answers(Mutex<BTreeMap<u16, usize>>);

impl Answers {
    fn count(&self, status: u16) -> usize {
        self.0.lock().unwrap().get(&status).copied().unwrap_or(0)
    }

    /// Waits for more answers with this status.
    fn wait_for(&self, status: u16) {
        let before = self.count(status);
        eventually("answers with a status", || (self.count(status) > before + 30).then_some(()));
    }

    fn statuses(&self) -> Vec<u16> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

/// Runs `work` while clients send requests, each of which must have an answer.
fn under_load(site: &mut Site, work: impl FnOnce(&mut Site, &Answers)) -> Answers {
    let (stop, answers) = (AtomicBool::new(false), Answers::default());
    let (address, proxy) = (site.address(), site.proxy);
    let send = || {
        let connect = || {
            let stream = http_connect_from(client_address(2), address).expect("a connection");
            Connection::over(stream)
        };
        let request = kept_request("GET", "/", &[], "");
        let mut connection = connect();
        while !stop.load(Ordering::Relaxed) {
            // A proxy may close a connection after an answer, so that a request needs another one.
            let answer = connection.exchange(&request).or_else(|_| {
                connection = connect();
                connection.exchange(&request)
            });
            let answer = answer.unwrap_or_else(|error| panic!("{proxy:?}: {error}"));
            *answers.0.lock().unwrap().entry(answer.status).or_default() += 1;
        }
    };
    thread::scope(|scope| {
        let guard = StopOnDrop(&stop);
        for _ in 0..4 {
            scope.spawn(send);
        }
        work(site, &answers);
        drop(guard);
    });
    answers
}

#[test]
#[ignore = "make test-proxies"]
fn a_gateway_that_is_killed_and_restarted_closes_the_service_meanwhile() {
    for proxy in Proxy::ALL {
        let mut site = Site::with(proxy, Some(POLICIES), "127.0.0.1", &|text| text);
        let fault = proxy.status_without_gateway();
        let answers = under_load(&mut site, |site, answers| {
            answers.wait_for(200);
            site.gateway = None;
            answers.wait_for(fault);
            let passed = site.upstream.requests();
            answers.wait_for(fault);
            assert_eq!(site.upstream.requests(), passed, "{proxy:?}");
            site.start_gateway();
            answers.wait_for(200);
        });
        assert_eq!(answers.statuses(), [200, fault], "{proxy:?}");
        assert_eq!(answers.count(200), site.upstream.requests(), "{proxy:?}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_proxy_that_fails_open_serves_every_request_meanwhile() {
    for proxy in [Proxy::Nginx, Proxy::Haproxy] {
        let fail_open = |text: String| proxy.failing_open(&text).expect("it can fail open");
        let mut site = Site::with(proxy, Some(POLICIES), "127.0.0.1", &fail_open);
        let answers = under_load(&mut site, |site, answers| {
            answers.wait_for(200);
            site.gateway = None;
            answers.wait_for(200);
            answers.wait_for(200);
            site.start_gateway();
            answers.wait_for(200);
            // The gateway itself fails closed, and the proxy open.
            site.server.kill();
            answers.wait_for(200);
        });
        assert_eq!(answers.statuses(), [200], "{proxy:?}\n{}", site.log());
    }
}

#[test]
#[ignore = "make test-proxies"]
fn an_error_in_the_action_of_haproxy_lets_no_request_pass() {
    let with_error =
        |text: String| text.replace("local headers = question(txn)", "error('a fault')");
    let site = Site::with(Proxy::Haproxy, Some(POLICIES), "127.0.0.1", &with_error);
    let status = site.get(2, "/").status;
    assert!(site.log().contains("a fault"), "{}", site.log());
    assert_eq!((status, site.upstream.requests()), (503, 0));
}

#[test]
#[ignore = "make test-proxies"]
fn a_redis_that_is_killed_and_restarted_closes_the_service_meanwhile() {
    for proxy in Proxy::ALL {
        let mut site = Site::with(proxy, Some(POLICIES), "127.0.0.1", &|text| text);
        let fault = proxy.status_without_redis();
        let answers = under_load(&mut site, |site, answers| {
            answers.wait_for(200);
            site.server.kill();
            answers.wait_for(fault);
            site.server.resume();
            answers.wait_for(200);
        });
        assert_eq!(answers.statuses(), [200, fault], "{proxy:?}");
        assert_eq!(answers.count(200), site.upstream.requests(), "{proxy:?}");
    }
}
