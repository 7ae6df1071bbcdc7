//! The Helm chart: the manifests for its values, and the values that it refuses.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::harness::repository;
use crate::shipping::kubernetes::{
    assert_the_rest_finds_workloads, chart, container, gateway_settings, helm_template, items,
    named, pod, printed, read, rendered, workloads,
};

/// A file of values.
fn values_file(values: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, values).expect("it is written");
    file
}

/// Returns the objects that the chart makes of a file of values.
fn chart_of_file(values: &str) -> Vec<Value> {
    printed(helm_template("ratelimit").arg("--values").arg(values_file(values).path()))
}

/// Returns the references to Services in an object.
fn backends<'v>(value: &'v Value) -> Vec<&'v Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(backends).collect(),
        Value::Object(fields) => {
            let of_field = |(name, value): (&String, &'v Value)| match name.as_str() {
                "backendRef" => vec![value],
                "backendRefs" => items(value).iter().collect(),
                _ => backends(value),
            };
            fields.iter().flat_map(of_field).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the error of Helm for a file of values that Helm refuses.
fn refusal(values: &str) -> String {
    let file = values_file(values);
    let output = helm_template("ratelimit").arg("--values").arg(file.path()).output();
    let output = output.expect("helm starts");
    assert!(!output.status.success(), "{values} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "make test-web"]
fn numbers_of_a_values_file_stay_as_they_are() {
    let objects = chart_of_file(
        "gateway:
  settings:
    MAX_CONNECTIONS: 1000000
    DEFAULT_LIMIT: 1000000000
    CALLER_WINDOW_SECONDS: 31622400
    LOCAL_SHARE: 0.25
    METRICS_OPEN: true
  terminationGracePeriodSeconds: 1000000
  minReplicas: 1000000
  maxReplicas: 2000000
  podSecurityContext: { runAsUser: 1000680000 }
  extraEnv: [{ name: NUMBER, value: \"1000000\" }]
redis:
  maxmemory: 1000000000
  storage: 4000000000
  resources: { limits: { memory: 2000000000 } }
",
    );
    let settings = gateway_settings(&objects);
    for (name, value) in [
        ("MAX_CONNECTIONS", "1000000"),
        ("DEFAULT_LIMIT", "1000000000"),
        ("CALLER_WINDOW_SECONDS", "31622400"),
        ("LOCAL_SHARE", "0.25"),
        ("METRICS_OPEN", "true"),
        ("MAX_CONNECTIONS", "1000000"),
        ("SHUTDOWN_DELAY_MS", "5000"),
    ] {
        assert_eq!(settings[name], value);
    }
    let deployment = named(&objects, "Deployment", &"ratelimit-gateway".into());
    assert_eq!(pod(deployment)["terminationGracePeriodSeconds"], 1_000_000);
    assert_eq!(pod(deployment)["securityContext"]["runAsUser"], 1_000_680_000);
    let autoscaler = named(&objects, "HorizontalPodAutoscaler", &"ratelimit-gateway".into());
    assert_eq!(autoscaler["spec"]["minReplicas"], 1_000_000);
    assert_eq!(autoscaler["spec"]["maxReplicas"], 2_000_000);
    let text = serde_json::to_string(&objects).unwrap();
    assert!(text.contains(r"\nmaxmemory 1000000000\n"), "{text}");
    assert!(!text.contains("e+0"), "{text}");
}

#[test]
#[ignore = "make test-web"]
fn values_that_the_chart_does_not_have_are_refused() {
    for (values, part) in [
        ("replicas: 3", "'replicas' not allowed"),
        ("gateway: { replicas: 3 }", "'replicas' not allowed"),
        ("gateway: { settings: { default_limit: 3 } }", "'default_limit'"),
        ("gateway: { settings: { FAILMODE: open } }", "'FAILMODE' not allowed"),
        ("gateway: { settings: { DEFAULT_LIMIT: [3] } }", "got array"),
        ("gateway: { settings: { SHUTDOWN_DELAY_MS: 10001 } }", "20 s is less than"),
        ("gateway: { terminationGracePeriodSeconds: 14 }", "14 s is less than"),
        ("gateway: { settings: null }", "missing property 'settings'"),
        ("gateway: { service: null }", "missing property 'service'"),
        ("redis: { podLabels: null }", "missing property 'podLabels'"),
        ("labels: null", "missing property 'labels'"),
        ("gateway: { resources: { limit: { memory: 1Gi } } }", "'limit' not allowed"),
        ("gateway: { ingress: { host: example.com } }", "'host' not allowed"),
        ("gateway: { minReplicas: many }", "got string, want integer"),
        ("gateway: { podLabels: { number: 1000000 } }", "got number, want string"),
        ("image: { tag: 2.0 }", "got number, want string"),
        ("redis: { maxMemory: 1gb }", "'maxMemory' not allowed"),
        ("redis: { maxmemory: 1.5gb }", "does not match pattern"),
        ("redis: { resources: null }", "redis.maxmemory: required"),
        ("redis: { resources: { limits: null } }", "redis.maxmemory: required"),
        ("redis: { resources: { limits: { memory: null } } }", "redis.maxmemory: required"),
        ("redis: { resources: { limits: { memory: 1500m } } }", "redis.maxmemory: required"),
        ("redis: { resources: { limits: { memory: 1Mi } } }", "too little for Redis"),
        ("serviceMonitor: { label: {} }", "'label' not allowed"),
        ("prometheusRule: true", "got boolean, want object"),
        ("gateway: { ingress: { enabled: true } }", "gateway.ingress.hosts"),
    ] {
        let refusal = refusal(values);
        assert!(refusal.contains(part), "{values}: {refusal}");
    }
    chart_of_file("gateway: { settings: { SHUTDOWN_DELAY_MS: 10000 } }");
    chart_of_file("redis: { resources: null, maxmemory: 1gb }");
    // A parent chart sets `global` for all of its charts.
    chart_of_file("global: { registry: example.com }");
}

#[test]
#[ignore = "make test-web"]
fn redis_takes_half_of_the_memory_of_its_container() {
    for (memory, maxmemory) in [
        ("512Mi", "256mb"),
        ("3Gi", "1536mb"),
        ("1.5Gi", "768mb"),
        ("2G", "953mb"),
        ("4294967296", "2048mb"),
        ("2Ti", "1048576mb"),
    ] {
        let values = format!("redis: {{ resources: {{ limits: {{ memory: {memory} }} }} }}");
        let text = serde_json::to_string(&chart_of_file(&values)).unwrap();
        assert!(text.contains(&format!(r"\nmaxmemory {maxmemory}\n")), "{memory}: {text}");
    }
}

#[test]
#[ignore = "make test-web"]
fn pods_are_scheduled_marked_and_fed_as_the_values_say() {
    let workload = "
  podLabels: { team: limits }
  podAnnotations: { example.com/scrape: \"true\" }
  nodeSelector: { disk: fast }
  tolerations: [{ key: dedicated, operator: Exists }]
  priorityClassName: high
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
          - matchExpressions: [{ key: zone, operator: In, values: [a] }]";
    let objects = chart_of_file(&format!(
        "labels: {{ owner: shop }}
annotations: {{ example.com/source: chart }}
image: {{ registry: registry.example.com, pullPolicy: Always }}
serviceAccount: {{ create: true, annotations: {{ example.com/role: limits }} }}
gateway:{workload}
  topologySpreadConstraints:
    - topologyKey: rack
      maxSkew: 2
      whenUnsatisfiable: DoNotSchedule
      labelSelector: {{ matchLabels: {{ app.kubernetes.io/name: ratelimit-gateway }} }}
  extraEnv: [{{ name: OTEL_RESOURCE_ATTRIBUTES, value: zone=a }}]
  envFrom: [{{ secretRef: {{ name: more }} }}]
  service: {{ ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv4] }}
redis:{workload}
"
    ));
    assert_the_rest_finds_workloads(&objects);
    for object in &objects {
        assert_eq!(object["metadata"]["labels"]["owner"], "shop", "{object}");
        assert_eq!(object["metadata"]["annotations"]["example.com/source"], "chart");
    }
    for workload in workloads(&objects) {
        let metadata = &workload["spec"]["template"]["metadata"];
        assert_eq!(metadata["labels"]["team"], "limits");
        assert_eq!(metadata["labels"]["owner"], "shop");
        assert_eq!(metadata["annotations"]["example.com/scrape"], "true");
        assert!(metadata["annotations"]["ratelimit/settings"].is_string());
        let pod = pod(workload);
        assert_eq!(pod["nodeSelector"]["disk"], "fast");
        assert_eq!(pod["tolerations"][0]["key"], "dedicated");
        assert_eq!(pod["priorityClassName"], "high");
        assert!(pod["affinity"]["nodeAffinity"].is_object());
        let account = named(&objects, "ServiceAccount", &pod["serviceAccountName"]);
        assert_eq!(account["metadata"]["annotations"]["example.com/role"], "limits");
        assert_eq!(pod["automountServiceAccountToken"], false);
        let container = container(workload);
        assert_eq!(container["imagePullPolicy"], "Always");
        assert!(
            container["image"].as_str().unwrap().starts_with("registry.example.com/ratelimit-")
        );
    }
    let gateway = named(&objects, "Deployment", &"ratelimit-gateway".into());
    let spreads = items(&pod(gateway)["topologySpreadConstraints"]);
    assert_eq!((spreads.len(), &spreads[0]["topologyKey"]), (1, &"rack".into()));
    let container = container(gateway);
    assert_eq!(container["envFrom"][1]["secretRef"]["name"], "more");
    assert_eq!(container["env"][1]["value"], "zone=a");
    let service = named(&objects, "Service", &"ratelimit-gateway".into());
    assert_eq!(service["spec"]["ipFamilyPolicy"], "PreferDualStack");
    assert_eq!(service["spec"]["ipFamilies"][0], "IPv6");
}

#[test]
#[ignore = "make test-web"]
fn an_image_can_be_named_as_a_whole() {
    let objects = chart(&[
        "gateway.image=example.com/gateway@sha256:0123",
        "redis.image=example.com/redis:8",
        "image.registry=elsewhere",
    ]);
    let images = workloads(&objects).into_iter().map(|workload| &container(workload)["image"]);
    let images: Vec<_> = images.collect();
    assert_eq!(images, ["example.com/gateway@sha256:0123", "example.com/redis:8"]);
}

/// Asserts that the cluster chooses users and groups, and that all else is as hardened as before.
fn assert_cluster_chooses_users(objects: &[Value]) {
    for workload in workloads(objects) {
        let context = &pod(workload)["securityContext"];
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(context[field], Value::Null, "{}", workload["metadata"]["name"]);
        }
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(container(workload)["securityContext"]["readOnlyRootFilesystem"], true);
    }
}

#[test]
#[ignore = "make test-web"]
fn openshift_chooses_users_and_groups() {
    let objects = chart_of_file(
        "gateway: { podSecurityContext: { runAsUser: null, runAsGroup: null } }
redis: { podSecurityContext: { runAsUser: null, runAsGroup: null, fsGroup: null } }
",
    );
    assert_cluster_chooses_users(&objects);
    let component = "components: [../../deploy/kubernetes/components/openshift]";
    for base in ["deploy/kubernetes", "deploy/kubernetes/external-redis"] {
        let directory = TempDir::new_in(repository().join("target")).expect("a directory");
        let kustomization = format!("resources: [../../{base}]\n{component}\n");
        fs::write(directory.path().join("kustomization.yaml"), kustomization).expect("a file");
        assert_cluster_chooses_users(&rendered(directory.path()));
    }
}

#[test]
#[ignore = "make test-web"]
fn an_ingress_leads_to_the_gateway() {
    let objects = chart_of_file(
        "gateway:
  ingress:
    enabled: true
    className: nginx
    annotations: { example.com/issuer: own }
    hosts: [limits.example.com, limits.example.org]
    path: /limits
    tls: [{ hosts: [limits.example.com], secretName: certificate }]
",
    );
    let ingress = named(&objects, "Ingress", &"ratelimit-gateway".into());
    assert_eq!(ingress["metadata"]["annotations"]["example.com/issuer"], "own");
    assert_eq!(ingress["spec"]["ingressClassName"], "nginx");
    assert_eq!(ingress["spec"]["tls"][0]["secretName"], "certificate");
    let hosts: Vec<_> = items(&ingress["spec"]["rules"]).iter().map(|rule| &rule["host"]).collect();
    assert_eq!(hosts, ["limits.example.com", "limits.example.org"]);
    for rule in items(&ingress["spec"]["rules"]) {
        let path = &rule["http"]["paths"][0];
        assert_eq!((&path["path"], &path["pathType"]), (&"/limits".into(), &"Prefix".into()));
        let backend = &path["backend"]["service"];
        let service = named(&objects, "Service", &backend["name"]);
        let ports = items(&service["spec"]["ports"]);
        assert!(ports.iter().any(|port| port["name"] == backend["port"]["name"]));
    }
}

#[test]
#[ignore = "make test-web"]
fn prometheus_and_grafana_find_what_is_for_them() {
    let file = values_file(
        "serviceMonitor: { enabled: true, labels: { release: prometheus }, interval: 30s }
prometheusRule: { enabled: true, labels: { release: prometheus } }
dashboard: { enabled: true, annotations: { example.com/folder: Limits } }
",
    );
    let objects = printed(helm_template("shop").arg("--values").arg(file.path()));
    let name = "shop-gateway".into();
    let (monitor, rule) =
        (named(&objects, "ServiceMonitor", &name), named(&objects, "PrometheusRule", &name));
    for object in [monitor, rule] {
        assert_eq!(object["metadata"]["labels"]["release"], "prometheus");
    }
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["interval"], "30s");

    // The alerts are the shipped alerts, for the job that the monitor names.
    let job_label = monitor["spec"]["jobLabel"].as_str().unwrap();
    let service = named(&objects, "Service", &name);
    assert_eq!(service["metadata"]["labels"][job_label], name);
    let shipped = read("observability/prometheus-alerts.yml");
    let names = |line: &str| line.trim().strip_prefix("- alert: ").map(str::to_owned);
    let shipped: Vec<_> = shipped.lines().filter_map(names).collect();
    let rules = items(&rule["spec"]["groups"]).iter().flat_map(|group| items(&group["rules"]));
    let rules: Vec<_> = rules.collect();
    let alerts: Vec<_> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert!(!alerts.is_empty());
    assert_eq!(alerts, shipped);
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        assert!(!expression.contains("ratelimit-gateway"), "{expression}");
    }

    let dashboard = named(&objects, "ConfigMap", &"shop-dashboard".into());
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(dashboard["metadata"]["annotations"]["example.com/folder"], "Limits");
    let text = dashboard["data"]["shop.json"].as_str().unwrap();
    assert_eq!(text, read("observability/grafana-dashboard.json"));
}

#[test]
#[ignore = "make test-web"]
fn values_of_the_chart_reach_what_they_are_for() {
    let objects = chart(&[
        "image.tag=2.0.0",
        "image.pullSecrets[0].name=registry",
        "secret=elsewhere",
        "gateway.maxReplicas=3",
        "redis.maxmemory=1gb",
        "redis.storage=9Gi",
        "redis.storageClassName=fast",
    ]);
    for workload in workloads(&objects) {
        assert!(container(workload)["image"].as_str().unwrap().ends_with(":2.0.0"));
        assert_eq!(pod(workload)["imagePullSecrets"][0]["name"], "registry");
        assert_eq!(container(workload)["env"][0]["valueFrom"]["secretKeyRef"]["name"], "elsewhere");
    }
    let text = serde_json::to_string(&objects).unwrap();
    for part in [
        r#""maxReplicas":3"#,
        r"\nmaxmemory 1gb\n",
        r#""storage":"9Gi""#,
        r#""storageClassName":"fast""#,
    ] {
        assert!(text.contains(part), "no {part}");
    }
}

#[test]
#[ignore = "make test-web"]
fn the_chart_mounts_files_and_probes_with_https_when_there_is_a_certificate() {
    let objects = chart(&[
        "gateway.settings.TLS_CERT_FILE=/tls/tls.crt",
        "gateway.settings.TLS_KEY_FILE=/tls/tls.key",
        "gateway.volumes[0].name=tls",
        "gateway.volumes[0].secret.secretName=certificate",
        "gateway.volumeMounts[0].name=tls",
        "gateway.volumeMounts[0].mountPath=/tls",
    ]);
    let gateway = named(&objects, "Deployment", &"ratelimit-gateway".into());
    assert_eq!(pod(gateway)["volumes"][0]["secret"]["secretName"], "certificate");
    let container = container(gateway);
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/tls");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS");
    }
}

#[test]
#[ignore = "make test-web"]
fn releases_of_the_chart_do_not_select_each_other() {
    let both = ["one", "two"].map(|release| printed(&mut helm_template(release))).concat();
    // Every selector selects one workload, of four.
    assert_eq!(workloads(&both).len(), 4);
    assert_the_rest_finds_workloads(&both);
}

#[test]
#[ignore = "make test-web"]
fn the_objects_for_proxies_find_the_service_of_the_chart() {
    let page = read("docs/proxies.md");
    let (_, section) = page.split_once("\n## Kubernetes\n").expect("the section");
    let blocks = section.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let (values, objects): (Vec<_>, Vec<_>) =
        blocks.partition(|block| block.starts_with("gateway:"));
    let chart = chart_of_file(values[0]);
    assert_the_rest_finds_workloads(&chart);
    let gateway = named(&chart, "Deployment", &"ratelimit-gateway".into());
    let mount = &container(gateway)["volumeMounts"][0]["mountPath"];
    let file = gateway_settings(&chart)["POLICIES_FILE"].as_str().unwrap();
    assert!(file.starts_with(mount.as_str().unwrap()), "{file}");
    let service = named(&chart, "Service", &"ratelimit-gateway".into());
    let ports = items(&service["spec"]["ports"]);
    let protocol =
        ports.iter().find(|port| port["name"] == "grpc").map(|port| &port["appProtocol"]);
    assert_eq!(protocol, Some(&"kubernetes.io/h2c".into()));
    let with_authz = chart_of_file(&values[0].replace("GRPC_PORT: 8001", "AUTHZ_PORT: 8002"));
    assert_the_rest_finds_workloads(&with_authz);
    let with_authz = named(&with_authz, "Service", &"ratelimit-gateway".into());
    assert_eq!(with_authz["spec"]["ports"][2]["port"], 8002);
    let mut found = 0;
    for object in objects {
        let file = values_file(object);
        let object = printed(Command::new("cat").arg(file.path()));
        for backend in object.iter().flat_map(backends).filter(|backend| backend["name"] != "shop")
        {
            assert_eq!(backend["name"], service["metadata"]["name"]);
            assert!(ports.iter().any(|port| port["port"] == backend["port"]), "{backend}");
            found += 1;
        }
    }
    assert_eq!(found, 3);
}
