//! The time to judge a request among many policies and overrides.
//!
//! `cargo bench -p policies` prints nanoseconds per judgement: the least of several rounds, because
//! a busy machine only ever adds time.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use policies::attributes::{Attributes, ClientAddress};
use policies::model::Entry;
use policies::{LoadOptions, Policies};

const ROUNDS: usize = 20;
const JUDGEMENTS: u32 = 20_000;

/// Returns a file of 1,000 policies, of which the last but one has 10,000 overrides.
fn file() -> String {
    let mut file = String::from("version: 1\npolicies:\n");
    for number in 0..999 {
        let (path, by) = (number / 2, if number % 2 == 0 { "identifier" } else { "client.ip" });
        let _ = writeln!(
            file,
            "  - name: policy-{number}\n    match: {{path: /service-{path}/**, method: {}}}\n    \
             by: [{by}]\n    missing: deny\n    limits: [{{name: rate, limit: 100, per: 1m}}]",
            if number % 2 == 0 { "GET" } else { "[POST, PUT]" },
        );
        if number != 998 {
            continue;
        }
        file.push_str("    overrides:\n");
        for number in 0..10_000 {
            let by = match number % 2 {
                0 => format!("user-{number}"),
                _ => format!("tenant-{number}-*"),
            };
            let _ = writeln!(file, "      - {{by: {by}, unlimited: true, reason: bench}}");
        }
    }
    file.push_str("  - {name: rest, by: [], limits: [{name: rate, limit: 100, per: 1m}]}\n");
    file
}

fn main() {
    let now = limiter::Instant::from_micros(1_782_907_200_000_000);
    let options =
        LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now };
    let file = file();
    let start = Instant::now();
    let policies = match Policies::load(file.as_bytes(), &options) {
        Ok(policies) => policies,
        Err(error) => return eprintln!("{error}"),
    };
    println!("load of {} KiB: {} ms", file.len() / 1_024, start.elapsed().as_millis());
    for (name, method, path, identifier) in [
        ("first policy, no overrides", "GET", "/service-0/x", "alice"),
        ("10,000 overrides, none applies", "GET", "/service-499/x/y", "alice"),
        ("10,000 overrides, a literal applies", "GET", "/service-499/x/y", "user-5000"),
        ("10,000 overrides, a prefix applies", "GET", "/service-499/x/y", "tenant-5001-a"),
        ("no path matches, the last policy applies", "GET", "/other", "alice"),
    ] {
        let mut attributes = Attributes::new(Entry::Check, policies.path_form());
        attributes.set_method(method.as_bytes());
        let _ = attributes.set_target(path.as_bytes());
        let _ = attributes.set("identifier", identifier);
        attributes.set_client(ClientAddress::Missing);
        println!("{name}: {} ns", least_nanos(&policies, &attributes, now));
    }
}

fn least_nanos(policies: &Policies, attributes: &Attributes<'_>, now: limiter::Instant) -> u128 {
    let round = || {
        let start = Instant::now();
        for _ in 0..JUDGEMENTS {
            let _ = black_box(policies.judge(black_box(attributes), now));
        }
        start.elapsed().as_nanos() / u128::from(JUDGEMENTS)
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}
