//! The module's settings: where they can be set, and what is refused.

use crate::harness::Server;

const NAME: &str = "ratelimit.sliding-window-max-limit";

#[test]
fn the_highest_limit_of_a_log_is_a_million_unless_set() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(setting(&server), "1000000");
    assert_eq!(client.decide("RATELIMIT.SW log 1000000 60")[1], 1_000_000);
    let refusal = client.refusal("RATELIMIT.SW log 1000001 60");
    assert_eq!(refusal, "ERR limit must be an integer between 1 and 1000000");
}

#[test]
fn a_running_server_takes_another_highest_limit() {
    let server = Server::start();
    let mut client = server.client();
    client.decide("RATELIMIT.SW log 10 60 COST 10");
    client.call::<()>(&format!("CONFIG SET {NAME} 5"));
    let refusal = client.refusal("RATELIMIT.SW log 6 60");
    assert_eq!(refusal, "ERR limit must be an integer between 1 and 5");
    let refusal = client.refusal("RATELIMIT.PEEK log SW 6 60");
    assert_eq!(refusal, "ERR limit must be an integer between 1 and 5");
    assert_eq!(client.decide("RATELIMIT.SW log 5 60")[..3], [0, 5, 0]);
    assert_eq!(client.decide("RATELIMIT.TB bucket 6 60")[0], 1, "a bucket has no such bound");
}

#[test]
fn the_highest_limit_has_bounds_of_its_own() {
    let server = Server::start();
    let mut client = server.client();
    client.call::<()>(&format!("CONFIG SET {NAME} 1000000000"));
    assert_eq!(client.decide("RATELIMIT.SW log 1000000000 60")[0], 1);
    for wrong in ["0", "-1", "1000000001", "many"] {
        client.refusal(&format!("CONFIG SET {NAME} {wrong}"));
    }
    assert_eq!(setting(&server), "1000000000");
}

#[test]
fn the_configuration_wins_over_the_modules_arguments() {
    let arguments = ["sliding-window-max-limit", "7"];
    assert_eq!(setting(&Server::builder().module_arguments(&arguments).start()), "7");
    let configured = Server::builder().module_arguments(&arguments).config(NAME, "9").start();
    assert_eq!(setting(&configured), "9");
}

#[test]
fn arguments_that_set_nothing_stop_the_start_with_one_line() {
    let expected = "<ratelimit> module arguments must be sliding-window-max-limit and an integer \
                    between 1 and 1000000000";
    for arguments in [
        &["sliding-window-max-limit"][..],
        &["sliding-window-max-limit", "0"],
        &["sliding-window-max-limit", "1000000001"],
        &["sliding-window-max-limit", "many"],
        &["sliding-window-max-limit", "7", "sliding-window-max-limit"],
        &["sliding-window-limit", "7"],
    ] {
        let log = Server::builder().module_arguments(arguments).start_in_vain();
        let lines = log.lines().filter(|line| line.contains("<ratelimit>"));
        let lines: Vec<_> = lines.filter_map(|line| line.split_once("# ")).collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {log}");
        assert_eq!(lines[0].1, expected, "{arguments:?}");
    }
}

fn setting(server: &Server) -> String {
    let [_, value]: [String; 2] = server.client().call(&format!("CONFIG GET {NAME}"));
    value
}
