//! The promises about any bytes: of a file, and of a request that an end user writes.

use std::sync::OnceLock;

use limiter::Instant;
use policies::attributes::{Attributes, ClientAddress, RequestError};
use policies::digest::HashKey;
use policies::judgement::{Judgement, Outcome};
use policies::model::Entry;
use policies::{LoadOptions, Policies};

/// 2026-07-01T12:00:00Z
const NOW: Instant = Instant::from_micros(1_782_907_200_000_000);

/// Each attribute that an end user writes, in each part of a policy. The address decides.
const FILE: &str = "
version: 1
unmatched: deny
secret: [header.x-key]
plans:
  small: [{name: rate, limit: 1, per: 1s}]
  large: [{name: rate, limit: 9, per: 1s, cost: {from: query.cost, default: 2, max: 9, trusted: true}}]
policies:
  - name: trial
    match: {header.x-user: '*'}
    by: [header.x-user]
    missing: share
    limits: [{name: rate, limit: 1, per: 1s}]
    entry: [authz]
    shadow: true
  - name: descriptors
    match: {domain: d, user: ['a*', '*b']}
    by: [user, path, host, client.ip]
    missing: share
    plan: {from: plan, default: small}
    entry: [rls]
  - name: site
    match: {client.ip: 192.0.2.0/24, path: {not: '/a/**/b'}}
    by: [method, host, path, query.q, header.x-user, header.x-key]
    missing: share
    plan: {from: header.plan, default: small, trusted: true}
    overrides: [{match: {client.ip: 192.0.2.9}, block: true, reason: test}]
    entry: [authz]
";

fn options() -> LoadOptions {
    LoadOptions {
        key_prefix: "p:".to_owned(),
        hash_key: HashKey::new(b"secret"),
        require_end: false,
        now: NOW,
    }
}

fn policies() -> &'static Policies {
    static POLICIES: OnceLock<Policies> = OnceLock::new();
    POLICIES.get_or_init(|| Policies::load(FILE.as_bytes(), &options()).unwrap())
}

/// Loads the bytes before the first NUL as a file, and judges the rest by it: neither panics, and
/// an explanation agrees with the judgement.
pub(crate) fn loaded(input: &[u8]) {
    let (file, request) = halves(input);
    let Ok(policies) = Policies::load(file, &options()) else { return };
    for entry in [Entry::Check, Entry::Authz, Entry::Rls] {
        let attributes = request_of(entry, &policies, request);
        let explained = policies.explain(&attributes, NOW);
        match policies.judge(&attributes, NOW) {
            Ok(judgement) => {
                assert_eq!(explained.policy, judgement.policy.map(|policy| &*policy.name));
                check_keys(&judgement);
            }
            Err(error) => assert_eq!(explained.error, Some(error.to_string())),
        }
    }
}

/// Judges a request whose method, host, target and headers are bytes of an end user: a denial stays
/// a denial, and the only error is that of a repeated attribute, which is answered with status 400.
pub(crate) fn written_by_an_end_user(input: &[u8]) {
    let policies = policies();
    let mut attributes = request_of(Entry::Authz, policies, input);
    for (address, is_blocked) in [("192.0.2.9", true), ("192.0.2.8", false)] {
        attributes.set_client(ClientAddress::Known(address.parse().unwrap()));
        match policies.judge(&attributes, NOW) {
            Ok(judgement) => {
                let expected = match judgement.policy {
                    // No clause on the path holds, so that no policy applies.
                    None => judgement.outcome == Outcome::Unmatched { deny: true },
                    Some(_) if is_blocked => {
                        judgement.outcome == Outcome::Blocked { until_ms: None }
                    }
                    Some(_) => {
                        let limits = &judgement.limits;
                        judgement.outcome == Outcome::Limited
                            && limits.len() == 1
                            && (1..=9).contains(&limits[0].cost)
                    }
                };
                assert!(expected, "{judgement:?}");
                check_keys(&judgement);
                check_record(policies, &attributes, &judgement);
            }
            Err(RequestError::Repeated(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    // Nothing in a descriptor is an error.
    let mut descriptor = Attributes::new(Entry::Rls, policies.path_form());
    descriptor.add_descriptor_entry("domain", b"d");
    let fields: Vec<_> = fields(input).collect();
    for (name, value) in &fields {
        if let Ok(name) = str::from_utf8(name) {
            descriptor.add_descriptor_entry(name, value);
        }
    }
    check_keys(&policies.judge(&descriptor, NOW).unwrap());
}

/// Returns the bytes before and behind the first NUL.
fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    (&input[..at], input.get(at + 1..).unwrap_or_default())
}

/// Returns names and values: lines with a `:` between the two.
fn fields(input: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    input.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    })
}

fn request_of<'r>(entry: Entry, policies: &Policies, input: &'r [u8]) -> Attributes<'r> {
    let mut attributes = Attributes::new(entry, policies.path_form());
    for (name, value) in fields(input) {
        match name {
            b"method" => attributes.set_method(value),
            b"host" => attributes.set_host(value),
            // A malformed path is answered with status 400.
            b"target" => drop(attributes.set_target(value)),
            name => match str::from_utf8(name).map(|name| (name, name.strip_prefix("header."))) {
                Ok((_, Some(header))) => attributes.add_header(header, value),
                Ok((name, None)) => {
                    if let Ok(value) = str::from_utf8(value) {
                        drop(attributes.set(name, value));
                    }
                }
                Err(_) => {}
            },
        }
    }
    attributes
}

/// Checks that the record of a request is judged as the request.
fn check_record(policies: &Policies, attributes: &Attributes<'_>, judgement: &Judgement<'_>) {
    let record = policies.record(attributes);
    let mut restored = Attributes::new(attributes.entry(), policies.path_form());
    for (name, value) in &record {
        let restored = policies.restore(&mut restored, name, value, None);
        restored.unwrap_or_else(|error| panic!("{name} {value:?}: {error}"));
    }
    match policies.judge(&restored, NOW) {
        Ok(again) => {
            assert_eq!(
                (again.outcome, again.limits),
                (judgement.outcome, judgement.limits.clone())
            );
        }
        // A glob needs the value.
        Err(RequestError::Secret(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Checks that each key has one slot tag, which is neither empty nor long, and no secret.
fn check_keys(judgement: &Judgement<'_>) {
    let trials = judgement.shadows.iter().flat_map(|trial| &trial.limits);
    for limit in judgement.limits.iter().chain(trials) {
        let (before, tag) = limit.key.split_once('{').unwrap();
        let tag = tag.strip_suffix('}').unwrap();
        assert!(before.starts_with("p:policy:") && !tag.is_empty(), "{}", limit.key);
        assert!(!tag.contains(['{', '}']) && !before.contains('}'), "{}", limit.key);
        assert!(limit.key.len() < 512 && limit.key.is_ascii(), "{}", limit.key);
    }
}
