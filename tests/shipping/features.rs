//! The cargo features of builds: what users get has the services for Envoy, and what developers build
//! again and again has not, because these services take long to compile.

use std::fs;

use crate::harness::repository;

/// The features with which cargo builds the gateway alone, and the gateway with other packages.
const ENVOY: [&str; 2] = ["--features envoy", "--features ratelimit-gateway/envoy"];

/// Returns the commands of cargo in a file that build, test or list the gateway or the workspace, each
/// as one line.
fn commands(file: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join(file)).unwrap_or_else(|_| panic!("{file}"));
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let commands = lines.flat_map(|line| line.split("&&"));
    let commands = commands.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_of_gateway = |line: &String| {
        let verbs = ["cargo build", "cargo test", "cargo tree"];
        verbs.iter().any(|verb| line.contains(verb))
            && ["--package ratelimit-gateway", "--workspace"].iter().any(|part| line.contains(part))
    };
    commands.filter(is_of_gateway).collect()
}

fn has_envoy(command: &str) -> bool {
    ENVOY.iter().any(|features| command.contains(features))
}

#[test]
fn the_archive_the_images_and_the_package_have_the_services_for_envoy() {
    for (file, count) in [("Dockerfile", 2), ("scripts/dist", 2), ("scripts/package", 1)] {
        let commands = commands(file);
        assert_eq!(commands.len(), count, "{file}: {commands:#?}");
        for command in commands {
            assert!(has_envoy(&command), "{file}: {command}");
        }
    }
    // Each of the checks of these artefacts calls the services.
    for file in ["scripts/check-dist", "scripts/test-images", "scripts/test-package"] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        assert!(text.contains("scripts/check-grpc"), "{file} does not call gRPC");
    }
}

#[test]
fn runs_and_tests_of_every_day_are_built_without_them() {
    let run = commands("scripts/run");
    assert!(run.len() == 1 && !has_envoy(&run[0]), "{run:#?}");
    let tests = commands("Makefile");
    let everyday: Vec<_> =
        tests.iter().filter(|command| !command.contains("$(with_envoy)")).collect();
    assert_eq!(everyday[0], "cargo test --locked --workspace");
    assert!(everyday.iter().all(|command| !command.contains("envoy")), "{everyday:#?}");
}
