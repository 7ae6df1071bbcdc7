//! A second evaluator, written from the contract and not from the engine: it tries the policies one
//! after the other, has no index, and matches globs by trying every split.

mod evaluate;
mod generate;

use limiter::Instant;
use policies::attributes::{Attributes, Claims, ClientAddress, RequestError};
use policies::judgement::{JudgedLimit, Judgement, Outcome};
use policies::model::Entry;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{NOW, load};
use evaluate::{Verdict, evaluate};
use generate::{Request, file, requests, written};

fn verdict(judgement: &Judgement<'_>) -> Verdict {
    let limits = |limits: &[JudgedLimit<'_>]| -> Vec<String> {
        let text = |limit: &JudgedLimit<'_>| {
            let always = limit.charge == policies::model::Charge::Always;
            format!("{} {} {} {always}", limit.key, limit.limit.get(), limit.cost)
        };
        limits.iter().map(text).collect()
    };
    Verdict {
        outcome: match judgement.outcome {
            Outcome::Limited => "limited".to_owned(),
            Outcome::Unlimited => "unlimited".to_owned(),
            Outcome::Blocked { until_ms } => format!("blocked {}", until_ms.is_some()),
            Outcome::Missing { attribute } => format!("missing {attribute}"),
            Outcome::Unmatched { deny } => format!("unmatched {deny}"),
        },
        policy: judgement.policy.map(|policy| policy.name.to_string()),
        plan: judgement.plan.map(str::to_owned),
        reason: judgement.r#override.map(|entry| entry.reason.to_string()),
        limits: limits(&judgement.limits),
        shadows: judgement
            .shadows
            .iter()
            .map(|shadow| (shadow.policy.name.to_string(), shadow.denied, limits(&shadow.limits)))
            .collect(),
    }
}

fn attributes<'r>(
    policies: &policies::Policies,
    request: &'r Request,
    claims: &'r Claims,
) -> Attributes<'r> {
    let mut attributes = Attributes::new(request.entry, policies.path_form());
    if let Some(policy) = request.policy {
        attributes.set_policy(format!("n{policy}"));
    }
    if let Some(cost) = request.cost {
        attributes.set_cost(cost);
    }
    if let Some(path) = request.path {
        attributes.set_target(path.as_bytes()).unwrap();
    }
    if let Some(method) = request.method {
        attributes.set_method(method.as_bytes());
    }
    for value in &request.headers {
        attributes.add_header("H", value.as_bytes());
    }
    for (name, value) in [("w", request.word), ("domain", request.domain)] {
        if let Some(value) = value {
            attributes.set(name, value).unwrap();
        }
    }
    attributes.set_client(match request.address {
        None => ClientAddress::Missing,
        Some(None) => ClientAddress::Unknown,
        Some(Some(address)) => ClientAddress::Known(address.parse().unwrap()),
    });
    attributes.set_claims(claims);
    attributes
}

fn claims(request: &Request) -> Claims {
    let mut claims = Claims::new();
    match request.claim.as_slice() {
        [] => {}
        [one] => {
            claims.insert("j".to_owned(), (*one).into());
        }
        several => {
            claims.insert("j".to_owned(), several.to_vec().into());
        }
    }
    if let Some(plan) = request.plan {
        claims.insert("plan".to_owned(), plan.into());
    }
    claims
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_judges_as_the_naive_evaluator(file in file(), requests in requests()) {
        let text = written(&file);
        let policies = load(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        for request in &requests {
            let claims = claims(request);
            let judged = policies.judge(&attributes(&policies, request, &claims), NOW);
            let expected = evaluate(&file, request);
            match (&judged, &expected) {
                (Ok(judgement), Ok(expected)) => {
                    prop_assert_eq!(&verdict(judgement), expected, "{:?}\n{}", request, text);
                }
                (Err(RequestError::UnknownPolicy(_)), Err("unknown policy"))
                | (Err(RequestError::PolicyNotForEntry(_)), Err("not for entry"))
                | (
                    Err(RequestError::Repeated(_) | RequestError::ClientAddressUnknown),
                    Err("fault"),
                ) => {}
                _ => prop_assert!(false, "{:?} {:?}\n{:?}\n{}", judged, expected, request, text),
            }
        }
    }

    #[test]
    fn a_record_is_judged_as_the_request(
        file in file(),
        requests in requests(),
        secrets in proptest::sample::subsequence(vec!["header.h", "w", "jwt.j", "client.ip"], 0..3),
    ) {
        let text = written(&file);
        let hidden = format!("secret: [{}]\n{text}", secrets.join(", "));
        // An override names secret values by their digests only.
        let policies = load(&hidden).or_else(|_| load(&text));
        let policies = policies.map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        let hash_key = super::options().hash_key;
        // A value that cannot be read has no record.
        let readable = |request: &&Request| request.headers.len() < 2 && request.address != Some(None);
        for request in requests.iter().filter(readable) {
            let claims = claims(request);
            let attributes = attributes(&policies, request, &claims);
            let Ok(judgement) = policies.judge(&attributes, NOW) else { continue };
            let record = policies.record(&attributes);
            let mut restored = Attributes::new(request.entry, policies.path_form());
            if let Some(policy) = request.policy {
                restored.set_policy(format!("n{policy}"));
            }
            if let Some(cost) = request.cost {
                restored.set_cost(cost);
            }
            for (name, value) in &record {
                policies.restore(&mut restored, name, value, hash_key.as_ref()).unwrap();
            }
            match policies.judge(&restored, NOW) {
                Ok(again) => prop_assert_eq!(
                    verdict(&again), verdict(&judgement), "{:?}\n{}", record, hidden
                ),
                Err(RequestError::Secret(name)) => prop_assert!(
                    secrets.contains(&&*name), "{} {:?}\n{}", name, record, hidden
                ),
                Err(error) => prop_assert!(false, "{} {:?}\n{}", error, record, hidden),
            }
        }
    }

    #[test]
    fn no_bytes_make_loading_panic(mut file in vec(any::<u8>(), 0..200), at in 0usize..1_000) {
        let _ = load(&String::from_utf8_lossy(&file));
        // Random bytes within a valid file reach later stages of the parser.
        let example = include_str!("../examples/larger.yaml");
        let at = example.floor_char_boundary(at % example.len());
        file.truncate(8);
        let noise = String::from_utf8_lossy(&file);
        let _ = load(&format!("{}{noise}{}", &example[..at], &example[at..]));
        let _ = load(&example[..at]);
    }

    #[test]
    fn no_request_of_an_end_user_panics_or_is_an_error_other_than_a_malformed_request(
        target in vec(any::<u8>(), 0..64),
        method in vec(any::<u8>(), 0..8),
        host in vec(any::<u8>(), 0..16),
        header in vec(any::<u8>(), 0..600),
        tokens in "-?[0-9a-z]{0,25}",
        now in any::<u64>(),
    ) {
        let policies = super::policies(
            "version: 1\npolicies:\n  - name: a\n    match: {path: {exists: true}}\n    by: [header.a, host, method, query.b]\n    missing: share\n    limits: [{name: r, limit: 10, per: 1s, cost: {from: header.t, default: 3, max: 9, trusted: true}}]\n",
        );
        let mut attributes = Attributes::new(Entry::Authz, policies.path_form());
        let path = attributes.set_target(&target);
        attributes.set_method(&method);
        attributes.set_host(&host);
        attributes.add_header("a", header.as_slice());
        attributes.add_header("t", tokens.as_bytes());
        match policies.judge(&attributes, Instant::from_micros(now)) {
            Ok(judgement) if path.is_ok() => {
                let limit = &judgement.limits[0];
                prop_assert!((1..=9).contains(&limit.cost));
                let longest = "policy:r:tb:{a|}".len() + 200;
                prop_assert!(limit.key.len() <= longest);
                prop_assert!(limit.key.bytes().all(|byte| byte.is_ascii_graphic()));
            }
            Ok(_) => prop_assert!(path.is_err()),
            Err(error) => prop_assert!(matches!(error, RequestError::Repeated(_)), "{error}"),
        }
        let _ = policies.explain(&attributes, NOW);
    }
}
