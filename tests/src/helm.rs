//! The chart, with the real Helm: what it renders is valid for every supported Kubernetes, and the collector runs with it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::peer::{self, Server};
use crate::support::{free_port, http, root, watchbell};

#[test]
fn lints() {
    helm(&["lint", "--strict", "CHART"]).expect("lint");
}

#[test]
fn renders_valid_manifests_for_every_supported_kubernetes() {
    let values = [
        &[][..],
        &["--set=persistence.enabled=false", "--set=serviceAccount.create=false", "--set=rules=null"],
        &[
            "--set=persistence.storageClassName=fast",
            "--set=env[0].name=A,env[0].value=b",
            "--set=envFrom[0].secretRef.name=s",
            "--set=extraVolumes[0].name=v,extraVolumes[0].secret.secretName=s",
            "--set=extraVolumeMounts[0].name=v,extraVolumeMounts[0].mountPath=/secrets",
            "--set=imagePullSecrets[0].name=pull,priorityClassName=high",
            "--set=nodeSelector.disk=ssd,tolerations[0].key=t,podAnnotations.a=b,podLabels.c=d",
            "--set=affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=zone",
            "--set=service.type=LoadBalancer,service.annotations.a=b,serviceAccount.annotations.a=b",
        ],
    ];
    for minor in 25..=37 {
        for values in values {
            let version = format!("1.{minor}.0");
            let rendered = template(&[&[format!("--kube-version={version}").as_str()], values].concat()).unwrap();
            check_manifests(&rendered, &version);
        }
    }
    template(&["--kube-version=1.24.0"]).expect_err("1.24 is not supported");
}

fn check_manifests(rendered: &str, version: &str) {
    let schemas = peer::folder("kubernetes-schemas").join("schemas");
    let location = "{{.NormalizedKubernetesVersion}}-local{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rendered.yaml");
    std::fs::write(&file, rendered).unwrap();
    let output = Command::new(peer::program("kubeconform", "kubeconform"))
        .args(["-strict", "-kubernetes-version", version, "-schema-location"])
        .arg(schemas.join(location))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{version}: {}\n{rendered}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn refuses_wrong_values() {
    for (wrong, complaint) in [
        ("--set=replicas=3", "replicas"),
        ("--set=persistence.sise=1Gi", "sise"),
        ("--set=config.api.endpoint=localhost", "endpoint"),
        ("--set=config.data_dir=/data", "config"),
        ("--set=service.type=Ingress", "type"),
        ("--set=rules.notes=text", "rules"),
        ("--set=config.api.endpoint=127.0.0.1:9430", "endpoint"),
    ] {
        let error = template(&[wrong]).expect_err(wrong);
        assert!(error.contains(complaint), "{wrong}: {error}");
    }
}

/// It is not asked there who reloads the rules.
#[test]
fn the_api_is_not_published_with_the_otlp_ports() {
    let rendered = template(&["--set=service.type=LoadBalancer"]).unwrap();
    let services = manifests(&rendered).into_iter().filter(|manifest| manifest["kind"] == "Service");
    let published: Vec<_> = services.filter(|service| service["spec"]["type"] == "LoadBalancer").collect();
    assert_eq!(published.len(), 1);
    let ports = published[0]["spec"]["ports"].as_array().unwrap();
    assert_eq!(ports.iter().map(|port| port["name"].as_str().unwrap()).collect::<Vec<_>>(), ["otlp-grpc", "otlp-http"]);
}

#[test]
fn the_chart_keeps_its_own_labels() {
    let rendered = template(&[r"--set=podLabels.app\.kubernetes\.io/name=other,podLabels.team=a"]).unwrap();
    let labels = &manifest(&rendered, "StatefulSet")["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["app.kubernetes.io/name"], &labels["team"]), (&"watchbell".into(), &"a".into()));
}

#[test]
fn the_pod_is_confined() {
    let rendered = template(&[]).unwrap();
    let pod = &manifest(&rendered, "StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    assert_eq!(pod["automountServiceAccountToken"], false);
}

/// Runs the collector on the rendered config, and asks every port and probe at an address that loopback's default does not cover.
#[test]
fn the_rendered_config_runs_and_every_port_and_probe_answers() {
    let ports = [free_port(), free_port(), free_port()];
    let [grpc, http, api] = ports.map(|port| format!("0.0.0.0:{port}"));
    let rendered = template(&[
        &format!("--set=config.receivers.otlp.protocols.grpc.endpoint={grpc}"),
        &format!("--set=config.receivers.otlp.protocols.http.endpoint={http}"),
        &format!("--set=config.api.endpoint={api}"),
    ])
    .unwrap();
    let server = start_rendered(&rendered);
    let container = &manifest(&rendered, "StatefulSet")["spec"]["template"]["spec"]["containers"][0];
    let container_ports = container["ports"].as_array().unwrap();
    assert_eq!(container_ports.len(), 3);
    for port in container_ports {
        let port = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
        std::net::TcpStream::connect((OTHER_ADDRESS, port)).unwrap_or_else(|error| panic!("{port}: {error}"));
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        let port = container_ports.iter().find(|port| port["name"] == get["port"]).unwrap();
        let url = format!("http://{OTHER_ADDRESS}:{}{}", port["containerPort"], get["path"].as_str().unwrap());
        assert_eq!(http::get(&url).unwrap().status, 200, "{probe}");
    }
    for service in manifests(&rendered).into_iter().filter(|manifest| manifest["kind"] == "Service") {
        for port in service["spec"]["ports"].as_array().unwrap() {
            let name = &port["targetPort"];
            assert!(container_ports.iter().any(|port| port["name"] == *name), "no port {name} in the container");
        }
    }
    drop(server);
}

/// Another address than 127.0.0.1: who listens on loopback's usual address alone does not answer there.
const OTHER_ADDRESS: &str = "127.0.0.2";

fn start_rendered(rendered: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let maps: Vec<_> = manifests(rendered).into_iter().filter(|manifest| manifest["kind"] == "ConfigMap").collect();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    for (name, text) in maps[1]["data"].as_object().unwrap() {
        std::fs::write(dir.path().join("rules").join(name), text.as_str().unwrap()).unwrap();
    }
    let config = maps[0]["data"]["config.yaml"].as_str().unwrap();
    let config = config.replace("/var/lib/watchbell", "data").replace("/etc/watchbell/", "");
    std::fs::write(dir.path().join("config.yaml"), &config).unwrap();
    let api: Value = serde_saphyr::from_str(&config).unwrap();
    let api = api["api"]["endpoint"].as_str().unwrap().replace("0.0.0.0", OTHER_ADDRESS);
    let mut server = Server::start_in(dir, &watchbell::binary(), &["run", "--config", "config.yaml"]);
    server.wait_ready(&format!("http://{api}/-/ready"));
    server
}

fn manifest(rendered: &str, kind: &str) -> Value {
    manifests(rendered).into_iter().find(|manifest| manifest["kind"] == kind).unwrap()
}

fn manifests(rendered: &str) -> Vec<Value> {
    let documents = rendered.split("---\n").filter(|document| document.contains("kind:"));
    documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn template(arguments: &[&str]) -> Result<String, String> {
    helm(&[&["template", "release", "CHART", "--namespace=monitoring"], arguments].concat())
}

/// Runs Helm; CHART is the chart's folder.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let chart = root().join("helm/watchbell");
    let arguments = arguments.iter().map(|argument| match *argument {
        "CHART" => chart.clone(),
        argument => PathBuf::from(argument),
    });
    let mut command = Command::new(peer::program("helm", "helm"));
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.path());
    }
    let output = command.args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
}
