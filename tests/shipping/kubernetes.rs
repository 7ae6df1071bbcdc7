//! The manifests for Kubernetes: rendered and checked against their schemas, and every name in them
//! refers to an existing object. A real gateway and a real Redis run with their settings.

use std::fs;
use std::net::{Ipv6Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::harness::{Gateway, GatewayBuilder, Server, repository};

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn installed(program: &str) -> Command {
    Command::new(repository().join("target/kubernetes/bin").join(program))
}

/// Returns the output of a command, each object as JSON that its schema allows.
pub(crate) fn printed(command: &mut Command) -> Vec<Value> {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = installed("python")
        .arg(repository().join("tests/kubernetes.py"))
        .stdin(child.stdout.take().expect("a pipe"))
        .output()
        .expect("Python starts");
    assert!(child.wait().expect("a child").success(), "{command:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Returns the objects of a kustomization.
pub(crate) fn rendered(directory: &Path) -> Vec<Value> {
    printed(installed("kubectl").arg("kustomize").arg(directory))
}

/// Returns the command that renders the chart as a release.
pub(crate) fn helm_template(release: &str) -> Command {
    let mut helm = installed("helm");
    helm.args(["template", release]).arg(repository().join("deploy/helm/ratelimit"));
    helm
}

/// Returns the objects of the chart with these values.
pub(crate) fn chart(values: &[&str]) -> Vec<Value> {
    printed(helm_template("ratelimit").args(values.iter().map(|value| format!("--set={value}"))))
}

fn with_redis() -> Vec<Value> {
    rendered(&repository().join("deploy/kubernetes"))
}

fn with_external_redis() -> Vec<Value> {
    rendered(&repository().join("deploy/kubernetes/external-redis"))
}

/// Returns the objects of the kustomization that the README has as an example.
fn as_in_the_readme() -> Vec<Value> {
    let readme = read("deploy/kubernetes/README.md");
    let (_, rest) = readme.split_once("```yaml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    // A kustomization has relative paths only, so the directory is created within the repository.
    let directory = TempDir::new_in(repository().join("target")).expect("a directory");
    fs::write(directory.path().join("kustomization.yaml"), example.replace("ratelimit/", "../../"))
        .expect("a file");
    rendered(directory.path())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

pub(crate) fn named<'a>(objects: &'a [Value], kind: &str, name: &Value) -> &'a Value {
    let found = of_kind(objects, kind).find(|object| object["metadata"]["name"] == *name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} has no fields"))
}

pub(crate) fn workloads(objects: &[Value]) -> Vec<&Value> {
    let is_workload = |object: &&Value| !object["spec"]["template"].is_null();
    objects.iter().filter(is_workload).collect()
}

pub(crate) fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

/// Returns the only container of a workload.
pub(crate) fn container(workload: &Value) -> &Value {
    let [container] = items(&pod(workload)["containers"]) else {
        panic!("{} has not one container", workload["metadata"]["name"]);
    };
    container
}

/// Returns whether the selector selects an object with these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    fields(selector).iter().all(|(name, value)| labels[name] == *value)
}

/// Returns the only workload whose pods the selector selects.
fn selected<'a>(objects: &'a [Value], selector: &Value) -> &'a Value {
    let labels = |workload: &Value| workload["spec"]["template"]["metadata"]["labels"].clone();
    let mut found = workloads(objects);
    found.retain(|workload| selects(selector, &labels(workload)));
    let [workload] = found[..] else { panic!("{selector} selects {} workloads", found.len()) };
    workload
}

fn assert_has_port(container: &Value, port: &Value) {
    let has = items(&container["ports"]).iter().any(|open| open["name"] == *port);
    assert!(has, "{} has no port {port}", container["name"]);
}

fn assert_workloads_find_what_they_name(objects: &[Value]) {
    let readme = read("deploy/kubernetes/README.md");
    for workload in workloads(objects) {
        let (pod, container) = (pod(workload), container(workload));
        let own = selected(objects, &workload["spec"]["selector"]["matchLabels"]);
        assert_eq!(own["metadata"]["name"], workload["metadata"]["name"]);
        for spread in items(&pod["topologySpreadConstraints"]) {
            assert_eq!(selected(objects, &spread["labelSelector"]["matchLabels"]), own);
        }
        for source in items(&container["envFrom"]) {
            named(objects, "ConfigMap", &source["configMapRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            let secret = &variable["valueFrom"]["secretKeyRef"];
            let (name, key) = (secret["name"].as_str().unwrap(), secret["key"].as_str().unwrap());
            let command = format!("create secret generic {name} --from-literal={key}=");
            assert!(readme.contains(&command), "nobody makes {command}");
        }
        let mut volumes = items(&pod["volumes"]).to_vec();
        for volume in &volumes {
            named(objects, "ConfigMap", &volume["configMap"]["name"]);
        }
        let claims = items(&workload["spec"]["volumeClaimTemplates"]);
        volumes.extend(claims.iter().map(|claim| claim["metadata"].clone()));
        for mount in items(&container["volumeMounts"]) {
            let has = volumes.iter().any(|volume| volume["name"] == mount["name"]);
            assert!(has, "{mount} is of no volume");
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = fields(&container[probe]);
            if let Some(request) = probe.get("httpGet") {
                assert_has_port(container, &request["port"]);
            }
        }
        if let Some(service) = workload["spec"].get("serviceName") {
            assert_eq!(named(objects, "Service", service)["spec"]["clusterIP"], "None");
        }
    }
}

pub(crate) fn assert_the_rest_finds_workloads(objects: &[Value]) {
    for service in of_kind(objects, "Service") {
        let workload = selected(objects, &service["spec"]["selector"]);
        for port in items(&service["spec"]["ports"]) {
            assert_has_port(container(workload), &port["targetPort"]);
        }
    }
    for policy in of_kind(objects, "NetworkPolicy") {
        let workload = selected(objects, &policy["spec"]["podSelector"]["matchLabels"]);
        for rule in items(&policy["spec"]["ingress"]) {
            for port in items(&rule["ports"]) {
                assert_has_port(container(workload), &port["port"]);
            }
            for peer in items(&rule["from"]) {
                selected(objects, &peer["podSelector"]["matchLabels"]);
            }
        }
    }
    for budget in of_kind(objects, "PodDisruptionBudget") {
        selected(objects, &budget["spec"]["selector"]["matchLabels"]);
    }
    for autoscaler in of_kind(objects, "HorizontalPodAutoscaler") {
        let target = &autoscaler["spec"]["scaleTargetRef"];
        let workload = named(objects, target["kind"].as_str().unwrap(), &target["name"]);
        assert_eq!(workload["apiVersion"], target["apiVersion"]);
        // A number of replicas here would contradict the autoscaler.
        assert_eq!(workload["spec"]["replicas"], Value::Null);
        // The autoscaler measures usage as a share of the requested CPU.
        assert!(container(workload)["resources"]["requests"]["cpu"].is_string());
    }
}

/// Asserts the rules of the profile "restricted" of the Pod Security Standards, and a few more.
fn assert_hardened(objects: &[Value]) {
    for workload in workloads(objects) {
        let (pod, container) = (pod(workload), container(workload));
        for (found, expected) in [
            (&pod["automountServiceAccountToken"], Value::Bool(false)),
            (&pod["securityContext"]["runAsNonRoot"], Value::Bool(true)),
            (&pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault".into()),
            (&container["securityContext"]["allowPrivilegeEscalation"], Value::Bool(false)),
            (&container["securityContext"]["readOnlyRootFilesystem"], Value::Bool(true)),
            (&container["securityContext"]["capabilities"]["drop"], ["ALL"].as_slice().into()),
        ] {
            assert_eq!(*found, expected, "{}", workload["metadata"]["name"]);
        }
        assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0);
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
}

fn assert_sound(objects: &[Value]) {
    assert_workloads_find_what_they_name(objects);
    assert_the_rest_finds_workloads(objects);
    assert_hardened(objects);
}

/// Returns the variables that the gateway gets unchanged from the ConfigMap.
pub(crate) fn gateway_settings(objects: &[Value]) -> &Map<String, Value> {
    let gateway = named(objects, "Deployment", &"ratelimit-gateway".into());
    let [source] = items(&container(gateway)["envFrom"]) else { panic!("not one source") };
    fields(&named(objects, "ConfigMap", &source["configMapRef"]["name"])["data"])
}

#[test]
#[ignore = "make test-web"]
fn with_a_redis_of_its_own_everything_is_there() {
    let objects = with_redis();
    let mut kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    let expected = [
        ["ConfigMap"; 2].as_slice(),
        &["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "NetworkPolicy"],
        &["PodDisruptionBudget", "Service", "Service", "StatefulSet"],
    ];
    assert_eq!(kinds, expected.concat());
    assert_sound(&objects);
    // The gateway calls Redis through this Service.
    named(&objects, "Service", &gateway_settings(&objects)["REDIS_HOST"]);
}

#[test]
#[ignore = "make test-web"]
fn with_a_redis_elsewhere_there_is_none() {
    let objects = with_external_redis();
    assert_sound(&objects);
    assert_eq!(of_kind(&objects, "StatefulSet").count(), 0);
    assert_eq!(gateway_settings(&objects).get("REDIS_HOST"), None);
}

#[test]
#[ignore = "make test-web"]
fn a_kustomization_of_ones_own_chooses_registry_settings_and_monitoring() {
    let objects = as_in_the_readme();
    assert_sound(&objects);
    let version = env!("CARGO_PKG_VERSION");
    for (workload, name) in workloads(&objects).into_iter().zip(["gateway", "redis"]) {
        let image = format!("registry.example.com/ratelimit-{name}:{version}");
        assert_eq!(container(workload)["image"], image.as_str());
    }
    assert_eq!(gateway_settings(&objects)["FAIL_MODE"], "local");
    assert!(objects.iter().all(|object| object["metadata"]["namespace"] == "ratelimit"));

    let monitors: Vec<_> = of_kind(&objects, "ServiceMonitor").collect();
    let [monitor] = monitors[..] else { panic!("{} monitors", monitors.len()) };
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    let spec = fields(&monitor["spec"]);
    assert_eq!(spec.keys().collect::<Vec<_>>(), ["endpoints", "jobLabel", "selector"]);
    let selector = &spec["selector"]["matchLabels"];
    let mut services = of_kind(&objects, "Service").collect::<Vec<_>>();
    services.retain(|service| selects(selector, &service["metadata"]["labels"]));
    let [service] = services[..] else { panic!("{selector} selects {} services", services.len()) };
    // The alert rules look for this job.
    let job = service["metadata"]["labels"][spec["jobLabel"].as_str().unwrap()].as_str().unwrap();
    assert!(read("observability/prometheus-alerts.yml").contains(&format!("job=\"{job}\"")));
    let [endpoint] = items(&spec["endpoints"]) else { panic!("not one endpoint") };
    assert_eq!(fields(endpoint).keys().collect::<Vec<_>>(), ["interval", "path", "port"]);
    assert!(items(&service["spec"]["ports"]).iter().any(|port| port["name"] == endpoint["port"]));
    let path = endpoint["path"].as_str().unwrap();
    assert_eq!(endpoint["port"], "admin");
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").admin().start();
    assert_eq!(gateway.get_as_operator(path).status, 200);
}

#[test]
#[ignore = "make test-web"]
fn images_have_the_version_as_their_tag() {
    let version = env!("CARGO_PKG_VERSION");
    for objects in [with_redis(), with_external_redis()] {
        for workload in workloads(&objects) {
            let image = format!("{}:{version}", workload["metadata"]["name"].as_str().unwrap());
            assert_eq!(container(workload)["image"], image.as_str());
        }
    }
}

#[test]
#[ignore = "make test-web"]
fn a_gateway_takes_the_settings_and_answers_the_probes() {
    let objects = with_redis();
    let settings = gateway_settings(&objects);
    let container = container(named(&objects, "Deployment", &"ratelimit-gateway".into()));
    let (_, help) = Gateway::builder().answers(&["--help"]);
    let secret = items(&container["env"]).iter().map(|variable| variable["name"].as_str().unwrap());
    for name in settings.keys().map(String::as_str).chain(secret) {
        assert!(help.contains(&format!("\n  {name}\n")), "the gateway has no setting {name}");
    }

    let set = |builder, (name, value): (&String, &Value)| {
        GatewayBuilder::env(builder, name, value.as_str().unwrap())
    };
    let (status, output) =
        settings.iter().fold(Gateway::builder(), set).answers(&["--check-config"]);
    assert!(status.success(), "{output}");

    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).admin().start();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let request = &container[probe]["httpGet"];
        assert_eq!(request["port"], "admin");
        let path = request["path"].as_str().unwrap();
        assert_eq!(gateway.get_as_operator(path).status, 200, "{probe}");
    }
    let ports = items(&container["ports"]);
    let port = ports.iter().find(|port| port["name"] == "admin").unwrap();
    assert_eq!(settings["ADMIN_PORT"], port["containerPort"].to_string());
}

#[test]
#[ignore = "make test-web"]
fn a_gateway_listens_on_both_kinds_of_addresses() {
    let objects = with_redis();
    let settings = gateway_settings(&objects);
    let builder = Gateway::builder().env("REDIS_URL", "memory://");
    let gateway = builder.env("HOST", settings["HOST"].as_str().unwrap()).start();
    assert_eq!(gateway.get("/health/live").status, 200);
    TcpStream::connect((Ipv6Addr::LOCALHOST, gateway.address().port())).expect("an answer");
}

#[test]
#[ignore = "make test-web"]
fn a_gateway_has_the_time_that_it_takes_to_stop() {
    let objects = with_redis();
    let settings = gateway_settings(&objects);
    let deployment = named(&objects, "Deployment", &"ratelimit-gateway".into());
    let seconds = pod(deployment)["terminationGracePeriodSeconds"].as_u64().unwrap();
    let takes = ["SHUTDOWN_DELAY_MS", "SHUTDOWN_TIMEOUT_MS"]
        .map(|name| settings[name].as_str().unwrap().parse::<u64>().unwrap());
    assert!(takes.iter().sum::<u64>() < seconds * 1_000, "{takes:?} ms in {seconds} s");
}

#[test]
#[ignore = "make test-web"]
fn a_redis_takes_its_configuration_and_answers_the_probes() {
    let objects = with_redis();
    let redis = named(&objects, "StatefulSet", &"ratelimit-redis".into());
    let [volume] = items(&pod(redis)["volumes"]) else { panic!("not one volume") };
    let files = fields(&named(&objects, "ConfigMap", &volume["configMap"]["name"])["data"]);
    let container = container(redis);
    let [file, option, password] = items(&container["args"]) else { panic!("other arguments") };
    assert_eq!((option, password), (&"--requirepass".into(), &"$(REDISCLI_AUTH)".into()));
    let mounts = items(&container["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
    let name = Path::new(file.as_str().unwrap())
        .strip_prefix(mount["mountPath"].as_str().unwrap())
        .unwrap();

    let directory = TempDir::new().unwrap();
    let data = mounts.iter().find(|mount| mount["name"] == "data").unwrap();
    let text = files[name.to_str().unwrap()].as_str().unwrap();
    let here =
        text.replace(data["mountPath"].as_str().unwrap(), directory.path().to_str().unwrap());
    assert_ne!(here, text);
    let path = directory.path().join(name);
    fs::write(&path, here).unwrap();
    let bind = text.lines().find_map(|line| line.strip_prefix("bind ")).unwrap();
    let server = Server::builder().configuration_file(&path).config("bind", bind);
    let server = server.password("secret").start();
    TcpStream::connect((Ipv6Addr::LOCALHOST, server.port())).expect("it listens on IPv6 as well");
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB user 100 60")[0], 1);
    let maxmemory: Vec<String> = client.call("CONFIG GET maxmemory");
    assert_eq!(maxmemory[1], (256 << 20).to_string());

    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let command = items(&container[probe]["exec"]["command"]);
        let words = command.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>();
        for (password, answers) in [("secret", true), ("wrong", false)] {
            let mut client = Command::new(words[0]);
            let client = client.args(["-p", &server.port().to_string()]).args(&words[1..]);
            let status = client.env("REDISCLI_AUTH", password).output().unwrap().status;
            assert_eq!(status.success(), answers, "{probe} with {password}");
        }
    }
}

/// Returns the objects without the differences between Kustomize and Helm: the way in which a
/// changed ConfigMap replaces pods, and labels that no selector uses.
fn in_common(objects: &[Value]) -> Vec<Value> {
    let mut text = serde_json::to_string(objects).unwrap();
    for map in of_kind(objects, "ConfigMap") {
        let name = map["metadata"]["name"].as_str().unwrap();
        let hash = name.rfind('-').filter(|hash| name.len() - hash == 11);
        text = text.replace(name, &name[..hash.unwrap_or(name.len())]);
    }
    let mut objects: Vec<Value> = serde_json::from_str(&text).unwrap();
    for object in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
            labels.remove("app.kubernetes.io/part-of");
        }
        metadata.retain(|_, value| !value.as_object().is_some_and(Map::is_empty));
        if let Some(template) = object["spec"].get_mut("template") {
            template["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    objects
        .sort_by_cached_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    objects
}

fn assert_same(chart: &[Value], kustomization: &[Value]) {
    let (chart, kustomization) = (in_common(chart), in_common(kustomization));
    assert_eq!(chart.len(), kustomization.len());
    for (made, expected) in chart.iter().zip(&kustomization) {
        assert_eq!(made, expected);
    }
}

#[test]
#[ignore = "make test-web"]
fn the_chart_makes_what_the_kustomizations_make() {
    assert_same(&chart(&[]), &with_redis());
    assert_same(&chart(&["redis.enabled=false"]), &with_external_redis());
    let version = format!("\nversion: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(read("deploy/helm/ratelimit/Chart.yaml").contains(&version));
}

#[test]
#[ignore = "make test-web"]
fn the_chart_chooses_what_a_kustomization_of_ones_own_chooses() {
    let mut made = chart(&[
        "image.registry=registry.example.com/",
        "gateway.settings.FAIL_MODE=local",
        "gateway.settings.LOCAL_SHARE=0.5",
        "serviceMonitor.enabled=true",
    ]);
    for object in &mut made {
        object["metadata"]["namespace"] = "ratelimit".into();
    }
    assert_same(&made, &as_in_the_readme());
}
