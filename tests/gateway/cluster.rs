//! Keys in a cluster: the gateway follows slots that move and replicas that take over.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Cluster, Gateway, GatewayBuilder, Record, Server, Traffic, eventually,
    is_primary, json_of,
};

const PRIMARIES: usize = 3;

fn gateway(cluster: &Cluster) -> GatewayBuilder {
    let settings = Gateway::builder().env("REDIS_URL", &cluster.url());
    settings.env("REDIS_TIMEOUT_MS", "5000").env("DENY_CACHE_SIZE", "0")
}

/// Returns an identifier whose keys this primary had at the start.
fn identifier(cluster: &Cluster, primary: usize) -> String {
    cluster.tag(primary).trim_matches(['{', '}']).to_owned()
}

fn identifiers(cluster: &Cluster) -> Vec<String> {
    (0..PRIMARIES).map(|primary| identifier(cluster, primary)).collect()
}

/// Returns clients, one for each of these identifiers, that take units which do not come back while
/// a test runs.
fn traffic(gateway: &Gateway, identifiers: Vec<String>, capacity: usize) -> Traffic {
    let clients = identifiers.len();
    let traffic = Traffic::on(&[gateway]).connections(clients).pause(Duration::from_millis(2));
    traffic.body(move |client| {
        let identifier = &identifiers[client];
        let quota = r#""limit": 1000, "window_seconds": 31622400"#;
        format!(r#"{{"identifier": "{identifier}", {quota}, "burst": {capacity}}}"#)
    })
}

/// Returns the number of used units of an identifier.
fn used(client: &mut Client, identifier: &str, capacity: usize) -> usize {
    let limit = format!("TB 1000 31622400 BURST {capacity}");
    let [_, _, remaining, ..] =
        client.decide(&format!("RATELIMIT.PEEK token_bucket:{{{identifier}}} {limit}"));
    capacity - usize::try_from(remaining).unwrap()
}

fn decided(answer: &Answer) -> bool {
    answer.source == Some("redis")
}

fn allowed(record: &Record) -> usize {
    record.with(|answer| decided(answer) && answer.allowed).len()
}

/// Returns the number of checks that were not decided: the units of these checks may have been
/// taken or not.
fn uncertain(record: &Record) -> usize {
    record.len() - record.with(decided).len()
}

#[test]
fn keys_of_every_slot_are_served_and_both_of_an_identifier() {
    let cluster = Cluster::start();
    let gateway = gateway(&cluster).env("LOG_LEVEL", "DEBUG").start();
    // The gateway has four connections to each primary. It decides before a busy machine has opened
    // all of these connections.
    eventually("every primary is connected", || {
        (gateway.log().matches("connected to Redis").count() == 12).then_some(())
    });
    for number in 0..100 {
        for algorithm in ["token_bucket", "sliding_window"] {
            let body = format!(
                r#"{{"identifier": "user-{number}", "algorithm": "{algorithm}",
                    "window_seconds": 86400}}"#
            );
            assert_eq!(gateway.post("/rate-limit/check", &body).status, 200);
        }
    }
    let sizes: Vec<i64> =
        (0..PRIMARIES).map(|number| cluster.node(number).client().call("DBSIZE")).collect();
    assert_eq!(sizes.iter().sum::<i64>(), 200);
    assert!(!sizes.contains(&0), "{sizes:?}");

    let path = "/rate-limit/status/user-7?algorithm=sliding_window&window_seconds=86400";
    let status = gateway.get(path).body;
    assert!(status.contains(r#""requests_used":1,"#), "{status}");
    for number in 0..100 {
        assert_eq!(gateway.delete(&format!("/rate-limit/reset/user-{number}")).status, 200);
    }
    for number in 0..PRIMARIES {
        assert_eq!(cluster.node(number).client().call::<i64>("DBSIZE"), 0);
    }
    assert_eq!(gateway.get("/health/ready").status, 200);
}

#[test]
fn an_identifier_that_begins_with_a_brace_is_reserved_and_settled_like_all_others() {
    let cluster = Cluster::start();
    let gateway = gateway(&cluster).start();
    for identifier in identifiers(&cluster) {
        gateway.wait_until_redis_decides(&identifier);
    }
    for identifier in ["}a", "}", "}{b}", "{}a"] {
        let limits =
            [json!({ "algorithm": "token_bucket" }), json!({ "algorithm": "fixed_window" })];
        let body = json!({ "reservation": "r", "ttl_seconds": 600, "identifier": identifier,
            "limits": limits });
        let reserved = gateway.post("/rate-limit/reserve", &body.to_string());
        assert_eq!(reserved.status, 200, "{identifier}: {}", reserved.body);
        let body = json!({ "reservation": "r", "identifier": identifier, "limits": limits });
        let settled = gateway.post("/rate-limit/settle", &body.to_string());
        assert_eq!(settled.status, 200, "{identifier}: {}", settled.body);
    }
}

#[test]
fn connections_are_shared_out_among_the_nodes() {
    let cluster = Cluster::start();
    for (most, expected) in [("1", 3), ("7", 6)] {
        let gateway = gateway(&cluster).env("REDIS_MAX_CONNECTIONS", most).start();
        for identifier in identifiers(&cluster) {
            gateway.wait_until_redis_decides(&identifier);
        }
        let metrics = gateway.get("/metrics").body;
        let live = metrics.lines().filter_map(|line| {
            line.strip_prefix("ratelimit_redis_connections{")?
                .split_once("} ")?
                .1
                .parse::<u32>()
                .ok()
        });
        assert_eq!(live.sum::<u32>(), expected, "{metrics}");
    }
}

#[test]
fn the_gateway_starts_before_the_cluster_does() {
    let mut cluster = Cluster::start();
    for number in 0..2 * PRIMARIES {
        cluster.node_mut(number).stop();
    }
    let gateway = gateway(&cluster).start();
    for identifier in ["a", "b"] {
        assert_eq!(gateway.check(identifier).status, 503);
    }
    gateway.log_with("cannot read the slots of the cluster");
    for number in 0..2 * PRIMARIES {
        cluster.node_mut(number).resume();
    }
    for number in 0..20 {
        gateway.wait_until_redis_decides(&number.to_string());
    }
}

#[test]
fn a_server_without_a_cluster_is_distinguished_from_a_cluster() {
    let server = Server::start();
    let url = format!("redis+cluster://127.0.0.1:{}", server.port());
    let gateway = Gateway::builder().env("REDIS_URL", &url).start();
    assert_eq!(gateway.check("someone").status, 503);
    let advice = "this Redis is not part of a cluster: use redis:// instead of redis+cluster://";
    gateway.log_with(advice);

    let cluster = Cluster::start();
    let gateway = Gateway::builder().redis(cluster.node(0)).start();
    assert_eq!(gateway.check(&identifier(&cluster, 0)).status, 200);
    assert_eq!(gateway.check(&identifier(&cluster, 1)).status, 503);
    let advice = "this Redis is part of a cluster: set REDIS_URL to redis+cluster://HOST:PORT";
    gateway.log_with(advice);
}

#[test]
fn a_dead_primary_harms_no_other_and_its_replica_takes_over() {
    let mut cluster = Cluster::start();
    for number in 0..2 * PRIMARIES {
        cluster.node(number).client().call::<()>("CONFIG SET cluster-node-timeout 4000");
    }
    let identifiers = identifiers(&cluster);
    let [lost, others @ ..] = &identifiers[..] else { panic!("{identifiers:?}") };
    let gateway = gateway(&cluster).start();
    let capacity = 1_000_000;
    let elsewhere = traffic(&gateway, others.to_vec(), capacity);
    let there = traffic(&gateway, vec![lost.clone()], capacity);
    let mut record = None;
    let undisturbed = elsewhere.during(|elsewhere| {
        elsewhere.more(50);
        record = Some(there.during(|progress| {
            progress.until("the primary decides", 1, decided);
            progress.more(100);
            cluster.node_mut(0).kill();
            progress.until("nobody decides", 1, |answer| answer.status == 503);
            progress.until("the replica decides", 1, decided);
            progress.more(100);
            cluster.node_mut(0).resume();
            eventually("the former primary follows", || {
                (!is_primary(cluster.node(0).port())).then_some(())
            });
            progress.more(100);
            progress.until("decisions go on", 1, decided);
        }));
        elsewhere.more(50);
    });
    assert_eq!(undisturbed.with(decided).len(), undisturbed.len(), "{undisturbed}");
    let record = record.unwrap();
    assert_eq!(record.lost(), 0, "{record}");
    // The primary replicates a grant asynchronously, so the last grants may be lost.
    let used = used(&mut cluster.node(3).client(), lost, capacity);
    assert!(used > 100 && used <= allowed(&record) + uncertain(&record), "{used}: {record}");
}

#[test]
fn a_planned_failover_of_a_shard_loses_nothing() {
    let cluster = Cluster::start();
    let gateway = gateway(&cluster).start();
    let (identifier, capacity) = (identifier(&cluster, 0), 1_000_000);
    let record = traffic(&gateway, vec![identifier.clone(); 4], capacity).during(|progress| {
        progress.until("the primary decides", 1, decided);
        progress.more(100);
        cluster.node(3).client().call::<()>("CLUSTER FAILOVER");
        eventually("the replica takes over", || is_primary(cluster.node(3).port()).then_some(()));
        progress.until("it decides", 1, decided);
        progress.more(100);
    });
    let used = used(&mut cluster.node(3).client(), &identifier, capacity);
    let allowed = allowed(&record);
    assert!((allowed..=allowed + uncertain(&record)).contains(&used), "{used}: {record}");
    let errors: String = cluster.node(0).client().call("INFO errorstats");
    assert!(errors.contains("errorstat_MOVED:"), "{errors}");
}

#[test]
fn a_limit_is_kept_exactly_while_its_slot_is_moved() {
    const CAPACITY: usize = 3_000;
    let cluster = Cluster::start();
    let (source, target) = (cluster.node(0), cluster.node(1));
    let gateway = gateway(&cluster).start();
    let identifier = identifier(&cluster, 0);
    let key = format!("token_bucket:{{{identifier}}}");
    let slot: u32 = source.client().call(&format!("CLUSTER KEYSLOT {key}"));
    let record = traffic(&gateway, vec![identifier.clone(); 4], CAPACITY).during(|progress| {
        progress.until("the primary decides", 1, decided);
        let (from, to) = (source.node_id(), target.node_id());
        let (mut source, mut target_client) = (source.client(), target.client());
        target_client.call::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
        source.call::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
        progress.more(100);
        let port = target.port();
        source.call::<String>(&format!("MIGRATE 127.0.0.1 {port} {key} 0 30000"));
        // The owner of the slot redirects each check to the node that has the key.
        progress.more(200);
        for client in [&mut target_client, &mut source] {
            client.call::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
        }
        progress.more(200);
        progress.until("all is used", 1, |answer| decided(answer) && !answer.allowed);
    });
    // A slot that moves causes no outage: Redis decided every check, once.
    assert_eq!(uncertain(&record), 0, "{record}");
    assert_eq!(allowed(&record), CAPACITY, "{record}");
    assert_eq!(used(&mut target.client(), &identifier, CAPACITY), CAPACITY);
    let errors: String = source.client().call("INFO errorstats");
    assert!(errors.contains("errorstat_ASK:"), "{errors}");
}

#[test]
fn a_batch_is_decided_by_all_nodes_and_answered_in_its_order() {
    const IDENTIFIERS: usize = 30;
    let cluster = Cluster::start();
    let gateway = gateway(&cluster).start();
    // The first check of each identifier takes the only unit of that identifier.
    let check =
        |number: usize| format!(r#"{{"identifier": "user-{}", "limit": 1}}"#, number % IDENTIFIERS);
    let checks: Vec<_> = (0..2 * IDENTIFIERS).map(check).collect();
    let body = format!(r#"{{"checks": [{}]}}"#, checks.join(","));
    let response = gateway.post("/rate-limit/check/batch", &body);
    assert_eq!(response.status, 200, "{}", response.body);
    let answer: Value = serde_json::from_str(&response.body).unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2 * IDENTIFIERS);
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result["source"], "redis", "{result}");
        assert_eq!(result["allowed"], number < IDENTIFIERS, "{result}");
    }
    let sizes: Vec<i64> =
        (0..PRIMARIES).map(|number| cluster.node(number).client().call("DBSIZE")).collect();
    assert_eq!(sizes.iter().sum::<i64>(), IDENTIFIERS as i64);
    assert!(!sizes.contains(&0), "{sizes:?}");
}

#[test]
fn a_reservation_is_settled_once_also_after_its_slot_has_moved() {
    let cluster = Cluster::start();
    let (source, target) = (cluster.node(0), cluster.node(1));
    let gateway = gateway(&cluster).start();
    let body = |identifier: &str, number: &str, units: u32| {
        let window = 31_622_400;
        let body = json!({ "reservation": "r", "identifier": identifier, "ttl_seconds": 600, "limits": [
            { "algorithm": "sliding_window", "limit": 10, "window_seconds": window, number: units },
            { "algorithm": "token_bucket", "limit": 20, "window_seconds": window, number: units },
        ] });
        body.to_string()
    };
    let identifiers = identifiers(&cluster);
    for identifier in &identifiers {
        let answer = gateway.post("/rate-limit/reserve", &body(identifier, "cost", 6));
        assert_eq!((answer.status, &json_of(&answer)["remaining"]), (200, &json!(4)));
    }
    let (from, to, port) = (source.node_id(), target.node_id(), target.port());
    let moved = &identifiers[0];
    let keys = ["sliding_window:{}", "token_bucket:{}", "reservation:{}:r"]
        .map(|key| key.replace("{}", &format!("{{{moved}}}")));
    let (mut source, mut target) = (source.client(), target.client());
    let slot: u32 = source.call(&format!("CLUSTER KEYSLOT {}", keys[0]));
    target.call::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
    source.call::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
    for key in keys {
        source.call::<String>(&format!("MIGRATE 127.0.0.1 {port} {key} 0 30000"));
    }
    for client in [&mut target, &mut source] {
        client.call::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
    }
    for identifier in &identifiers {
        let settle = || gateway.post("/rate-limit/settle", &body(identifier, "actual", 7));
        let answer = settle();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let limits = &json_of(&answer)["limits"];
        assert_eq!([0, 1].map(|place| limits[place]["correction"].as_i64()), [Some(1); 2]);
        assert_eq!(settle().status, 404);
    }
    let limits: Vec<_> = identifiers.iter().map(|name| json!({ "identifier": name })).collect();
    let apart = json!({ "ttl_seconds": 600, "limits": limits });
    let refused = gateway.post("/rate-limit/reserve", &apart.to_string());
    let msg = "Value error, identifiers must share a slot of the cluster";
    assert_eq!((refused.status, &json_of(&refused)["detail"][0]["msg"]), (422, &json!(msg)));
}
