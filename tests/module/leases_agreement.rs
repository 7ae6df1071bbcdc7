//! Agreement on leases: the pure crate and a server give the same answers over the same history,
//! with steps of the clock, restarts, changed parameters and the promotion of a replica; and the
//! replica has the same bytes.

use std::time::Duration;

use limiter::{
    Acquisition, AcquisitionError, Fences, HeldLease, Holder, Instant, Leases, RetryAfter, Stored,
    Units, Window,
};

use crate::harness::{Client, NOON, Random, Server, Snapshot};

const STEPS: usize = 6_000;
const KEYS: [&str; 2] = ["jobs", "other"];
const MAX_LEASES: u32 = 3;
const FULL: &str = "ERR the key has as many leases as the setting ratelimit.leases-max allows";

/// The leases of one key, with the expiry of the key.
#[derive(Default)]
struct Kept {
    leases: Leases,
    /// The earliest expiry after a change that has not been compared.
    earliest_millis: Option<u64>,
    expiry_millis: Option<u64>,
}

impl Kept {
    /// Removes the leases if the server removes their key now.
    fn expire(&mut self, now: Instant) {
        let now_millis = now.as_micros() / 1_000;
        if self.expiry_millis.is_some_and(|expiry| now_millis > expiry) {
            assert!(self.leases.has_ended(now), "a key is removed before its last lease has ended");
            *self = Self::default();
        }
    }

    /// Notes the earliest expiry of a change: a second after the end of the last lease.
    fn change(&mut self, now: Instant) {
        let micros = u128::from(self.leases.end().micros_since(now));
        let expiry = now.expiry_millis(limiter::Duration::from_micros(micros)) + 1_000;
        self.earliest_millis = Some(expiry);
    }

    fn release(&mut self, named: &[Named], now: Instant) -> i64 {
        let is_released = |lease: &&Named| self.leases.release(&lease.holder, lease.fence, now);
        let released = named.iter().filter(is_released).count();
        if released > 0 {
            if self.leases.has_ended(now) {
                *self = Self::default();
            } else {
                self.change(now);
            }
        }
        released as i64
    }
}

/// A lease as a call names it.
struct Named {
    holder: Holder,
    fence: Option<u64>,
}

/// A random call on one key.
struct Call<'h> {
    key: usize,
    now: Instant,
    ttl: Window,
    random: &'h mut Random,
}

/// The pure code in place of a server.
#[derive(Default)]
struct Oracle {
    keys: [Kept; 2],
    fences: Fences,
    granted: usize,
    denied: usize,
    full: usize,
    lost: usize,
}

impl Oracle {
    /// Makes one random call on the server and on the pure code.
    fn step(&mut self, client: &mut Client, random: &mut Random, now: Instant) {
        let key = random.below(KEYS.len());
        // The test accesses all keys after each call.
        for kept in &mut self.keys {
            kept.expire(now);
        }
        let ttl = Window::from_millis(random.pick(&[1, 10, 1_000, 1_001, 60_000])).unwrap();
        let call = Call { key, now, ttl, random };
        match call.random.below(10) {
            0..=5 => self.acquires(client, call),
            6 | 7 => self.renews(client, call),
            8 => self.releases(client, call),
            _ => self.lists(client, &call),
        }
    }

    fn acquires(&mut self, client: &mut Client, call: Call<'_>) {
        let Call { key, now, ttl, random } = call;
        let limit = random.pick(&[1_u64, 2, 5, 20, 1_000_000_000]);
        let cost = 1 + random.bits() % limit.div_ceil(random.pick(&[1, 2, 10]));
        let (holder, [limit, cost]) = (
            random_holder(random),
            [limit, cost + random.bits() % 2]
                .map(|units| Units::new(units.min(1_000_000_000)).unwrap()),
        );
        let acquisition = Acquisition { holder, limit, cost, ttl, max_leases: MAX_LEASES };
        let kept = &mut self.keys[key];
        let expected = kept.leases.acquire(&acquisition, &mut self.fences, now);
        let [limit, cost] = [limit, cost].map(|units| units.get().to_string());
        let words: [&[u8]; 7] = [
            b"RATELIMIT.ACQUIRE",
            KEYS[key].as_bytes(),
            limit.as_bytes(),
            &seconds(ttl),
            holder.as_bytes(),
            b"COST",
            cost.as_bytes(),
        ];
        match expected {
            Ok(acquired) => {
                let decision = acquired.decision;
                let retry_after_ms = match decision.retry_after {
                    RetryAfter::Granted => 0,
                    RetryAfter::Wait(time) => time.ceil_millis(),
                    RetryAfter::Never => -1,
                };
                let [fence, ends_in] = held(acquired.lease);
                let reply = [
                    i64::from(decision.granted),
                    i64::from(decision.capacity),
                    i64::from(decision.remaining),
                    retry_after_ms,
                    decision.reset_after.ceil_millis(),
                    fence,
                    ends_in,
                ];
                assert_eq!(client.send::<[i64; 7]>(&words), reply, "{acquisition:?} at {now:?}");
                if acquired.has_changed {
                    kept.change(now);
                }
                *if decision.granted > 0 { &mut self.granted } else { &mut self.denied } += 1;
            }
            Err(error) => {
                assert_eq!(error, AcquisitionError::TooManyLeases);
                assert_eq!(client.refusal_of(&words), FULL);
                self.full += 1;
            }
        }
    }

    fn renews(&mut self, client: &mut Client, call: Call<'_>) {
        let Call { key, now, ttl, random } = call;
        let kept = &mut self.keys[key];
        let named = random_leases(random, kept, now);
        let renewed: Vec<_> =
            named.iter().map(|own| kept.leases.renew(&own.holder, own.fence, ttl, now)).collect();
        if renewed.iter().any(|renewed| renewed.has_changed) {
            kept.change(now);
        }
        self.lost += renewed.iter().filter(|renewed| renewed.lease.is_none()).count();
        let expected: Vec<_> = renewed.into_iter().map(|renewed| held(renewed.lease)).collect();
        let ttl = seconds(ttl);
        let words = named_words(&[b"RATELIMIT.RENEW", KEYS[key].as_bytes(), &ttl], &named);
        assert_eq!(send::<Vec<[i64; 2]>>(client, &words), expected, "at {now:?}");
    }

    fn releases(&mut self, client: &mut Client, call: Call<'_>) {
        let Call { key, now, random, .. } = call;
        let kept = &mut self.keys[key];
        let named = random_leases(random, kept, now);
        let words = named_words(&[b"RATELIMIT.RELEASE", KEYS[key].as_bytes()], &named);
        assert_eq!(send::<i64>(client, &words), kept.release(&named, now), "at {now:?}");
    }

    fn lists(&mut self, client: &mut Client, call: &Call<'_>) {
        let mut expected = vec![];
        self.keys[call.key].leases.visit_counted(call.now, |lease| {
            let [fence, ends_in] = held(Some(HeldLease::of(lease, call.now)));
            let (holder, cost) = (lease.holder.as_bytes().to_vec(), i64::from(lease.cost.get()));
            expected.push((holder, cost, ends_in, fence));
            true
        });
        let found: Vec<(Vec<u8>, i64, i64, i64)> =
            client.call(&format!("RATELIMIT.HOLDERS {}", KEYS[call.key]));
        assert_eq!(found, expected, "at {:?}", call.now);
    }

    /// Checks that a change sets an expiry after the end of the leases, and less than ten seconds
    /// after it, and that nothing else sets one.
    fn compare_expiries(&mut self, client: &mut Client) {
        for (kept, key) in self.keys.iter_mut().zip(KEYS) {
            let expiry = u64::try_from(client.call::<i64>(&format!("PEXPIRETIME {key}"))).ok();
            if let Some(earliest) = kept.earliest_millis.take() {
                let expected = earliest..earliest + 9_000;
                assert!(
                    expiry.is_some_and(|expiry| expected.contains(&expiry)),
                    "{key}: {expiry:?}"
                );
                kept.expiry_millis = expiry;
            }
            assert_eq!(expiry, kept.expiry_millis, "{key}");
        }
    }
}

fn held(lease: Option<HeldLease>) -> [i64; 2] {
    lease.map_or([0; 2], |lease| [lease.fence.cast_signed(), lease.ends_in.floor_millis()])
}

fn random_holder(random: &mut Random) -> Holder {
    let names: [&[u8]; 9] =
        [b"a", b"b", b"c", b"d", b"e", b"f", b"\0", b"a\0", &[0xff; Holder::MAX_BYTES]];
    Holder::new(random.pick(&names)).unwrap()
}

/// Returns up to three leases to name, all with a fence or all without, most of them with the right
/// one.
fn random_leases(random: &mut Random, kept: &Kept, now: Instant) -> Vec<Named> {
    let is_fenced = random.once_in(3);
    let count = 1 + random.below(3);
    let mut name = || {
        let holder = random_holder(random);
        let own = kept.leases.counted(&holder, now).map_or(1, |lease| lease.fence);
        let fence = if random.once_in(4) { own + 1 } else { own };
        Named { holder, fence: is_fenced.then_some(fence) }
    };
    (0..count).map(|_| name()).collect()
}

fn named_words(head: &[&[u8]], named: &[Named]) -> Vec<Vec<u8>> {
    let mut words: Vec<_> = head.iter().map(|word| word.to_vec()).collect();
    if named.iter().any(|lease| lease.fence.is_some()) {
        words.push(b"FENCED".to_vec());
    }
    for Named { holder, fence } in named {
        words.push(holder.as_bytes().to_vec());
        words.extend(fence.map(|fence| fence.to_string().into_bytes()));
    }
    words
}

fn send<T: redis::FromRedisValue>(client: &mut Client, words: &[Vec<u8>]) -> T {
    client.send(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Returns a ttl as a client writes it.
fn seconds(ttl: Window) -> Vec<u8> {
    format!("{}.{:03}", ttl.as_millis() / 1_000, ttl.as_millis() % 1_000).into_bytes()
}

/// Moves the clock, mostly forwards and by less than the longest ttl.
fn move_clock(server: &Server, random: &mut Random) {
    let far = random.once_in(15);
    let most = if far { 130_000_000 } else { random.pick(&[1, 1_000, 20_000, 2_000_000]) };
    let micros = random.bits() % most;
    if random.once_in(15) {
        server.clock().step_back(Duration::from_micros(micros));
    } else {
        server.clock().advance(Duration::from_micros(micros));
    }
}

/// Starts a server whose keys expire when a call accesses them, and not at times of its own between
/// two steps of the clock; and without pings and timeouts of a replication whose clock jumps.
fn start(primary: Option<&Server>) -> Server {
    let builder = Server::builder()
        .config("appendonly", "yes")
        .config("ratelimit.leases-max", &MAX_LEASES.to_string())
        .config("repl-ping-replica-period", "86400")
        .config("repl-timeout", "864000");
    let server = match primary {
        Some(primary) => builder
            .clock_of(primary)
            .replica_of(primary)
            .config("propagation-error-behavior", "panic")
            .start(),
        None => builder.clock(NOON).start(),
    };
    server.client().call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    server
}

fn steps(server: &Server, oracle: &mut Oracle, random: &mut Random, steps: usize) {
    let mut client = server.client();
    for _ in 0..steps {
        move_clock(server, random);
        let now = Instant::from_micros(server.clock().micros());
        oracle.step(&mut client, random, now);
        oracle.compare_expiries(&mut client);
    }
}

#[test]
fn leases_agree_over_restarts_and_reloads() {
    let mut server = start(None);
    let (mut oracle, mut random) = (Oracle::default(), Random::new());
    for round in 0..12 {
        steps(&server, &mut oracle, &mut random, STEPS / 12);
        match round % 3 {
            0 => {
                server.kill();
                server.resume();
                server.client().call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
            }
            1 => server.client().call::<()>("DEBUG RELOAD"),
            _ => server.client().call::<()>("DEBUG LOADAOF"),
        }
        let now = Instant::from_micros(server.clock().micros());
        for kept in &mut oracle.keys {
            kept.expire(now);
        }
    }
    let Oracle { granted, denied, full, lost, .. } = oracle;
    let enough = STEPS / 50;
    assert!(granted > enough && denied > enough && full > 5 && lost > enough, "{full} {lost}");
}

#[test]
fn leases_agree_on_a_promoted_replica_which_has_the_same_bytes() {
    let mut primary = start(None);
    let replica = start(Some(&primary));
    replica.catch_up_with(&primary);
    let (mut oracle, mut random) = (Oracle::default(), Random::new());
    for _ in 0..30 {
        steps(&primary, &mut oracle, &mut random, STEPS / 60);
        replica.catch_up_with(&primary);
        for key in KEYS {
            if primary.client().call::<i64>(&format!("EXISTS {key}")) == 1 {
                let expected = Snapshot::of(&mut primary.client(), key);
                assert_eq!(Snapshot::of(&mut replica.client(), key), expected);
            }
        }
    }
    primary.kill();
    replica.client().call::<()>("REPLICAOF NO ONE");
    steps(&replica, &mut oracle, &mut random, STEPS / 4);
}
