//! What the process, the host, the operating system, the container and Kubernetes tell of themselves.

use std::env::consts::{ARCH, OS};
use std::fs;

use opentelemetry::KeyValue;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detector {
    Process,
    Host,
    Os,
    Container,
    Kubernetes,
    Service,
}

impl Detector {
    pub(crate) const ALL: [Self; 6] =
        [Self::Process, Self::Host, Self::Os, Self::Container, Self::Kubernetes, Self::Service];

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "process" => Some(Self::Process),
            "host" => Some(Self::Host),
            "os" => Some(Self::Os),
            "container" => Some(Self::Container),
            "k8s" => Some(Self::Kubernetes),
            "service" => Some(Self::Service),
            _ => None,
        }
    }

    /// What it finds, by OpenTelemetry's names; what cannot be found out is left out.
    pub(crate) fn detect(self) -> Vec<KeyValue> {
        match self {
            Self::Process => process(),
            Self::Host => host(),
            Self::Os => os(),
            Self::Container => container_id().map(|id| KeyValue::new("container.id", id)).into_iter().collect(),
            Self::Kubernetes => kubernetes(),
            Self::Service => vec![KeyValue::new("service.instance.id", uuid())],
        }
    }
}

fn process() -> Vec<KeyValue> {
    let mut found = vec![KeyValue::new("process.pid", i64::from(std::process::id()))];
    if let Ok(path) = std::env::current_exe() {
        found.push(KeyValue::new("process.executable.path", path.to_string_lossy().into_owned()));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        found.extend(name.map(|name| KeyValue::new("process.executable.name", name)));
    }
    found
}

fn host() -> Vec<KeyValue> {
    let arch = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "x86",
        other => other,
    };
    let name = line("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    let name = name.map(|name| KeyValue::new("host.name", name));
    let id = line("/etc/machine-id").map(|id| KeyValue::new("host.id", id));
    [Some(KeyValue::new("host.arch", arch)), name, id].into_iter().flatten().collect()
}

fn os() -> Vec<KeyValue> {
    let kind = if OS == "macos" { "darwin" } else { OS };
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let description = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let description = description.map(|text| KeyValue::new("os.description", text.trim_matches('"').to_owned()));
    [Some(KeyValue::new("os.type", kind)), description].into_iter().flatten().collect()
}

/// What a pod knows without its API.
fn kubernetes() -> Vec<KeyValue> {
    let pod = Pod {
        namespace: line("/var/run/secrets/kubernetes.io/serviceaccount/namespace"),
        hostname: line("/proc/sys/kernel/hostname"),
        hosts: fs::read_to_string("/etc/hosts").unwrap_or_default(),
        mounts: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
    };
    pod.detect(|name| std::env::var(name).ok())
}

/// Where a pod can tell something of itself, beside its environment.
struct Pod {
    /// That of its service account.
    namespace: Option<String>,
    hostname: Option<String>,
    hosts: String,
    mounts: String,
}

/// Attributes, and the variables in which the downward API may tell them, beside those that are named as they are: `K8S_POD_NAME`. The longest are
/// OpenTelemetry's operator's.
const TOLD: [(&str, &[&str]); 11] = [
    ("k8s.namespace.name", &["POD_NAMESPACE", "K8S_NAMESPACE"]),
    ("k8s.pod.name", &["POD_NAME", "OTEL_RESOURCE_ATTRIBUTES_POD_NAME"]),
    ("k8s.pod.uid", &["POD_UID", "OTEL_RESOURCE_ATTRIBUTES_POD_UID"]),
    ("k8s.node.name", &["NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME"]),
    ("k8s.container.name", &["CONTAINER_NAME"]),
    ("k8s.deployment.name", &[]),
    ("k8s.replicaset.name", &[]),
    ("k8s.statefulset.name", &[]),
    ("k8s.daemonset.name", &[]),
    ("k8s.job.name", &[]),
    ("k8s.cronjob.name", &[]),
];

impl Pod {
    fn detect(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<KeyValue> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable("KUBERNETES_SERVICE_HOST").is_none() {
            return Vec::new();
        }
        let found = |(key, names): &(&'static str, &[&str])| {
            let own_name = key.to_uppercase().replace('.', "_");
            let told = std::iter::once(own_name.as_str()).chain(names.iter().copied()).find_map(variable);
            Some(KeyValue::new(*key, told.or_else(|| self.found(key))?))
        };
        TOLD.iter().filter_map(found).collect()
    }

    /// What it tells without the downward API.
    fn found(&self, key: &str) -> Option<String> {
        match key {
            "k8s.namespace.name" => self.namespace.clone(),
            "k8s.pod.name" => self.hostname.clone().filter(|name| !self.has_network_of_host() && is_pod_name(name)),
            "k8s.pod.uid" => self.mounts.lines().find_map(pod_uid_in).map(str::to_owned),
            _ => None,
        }
    }

    /// As the kubelet writes it: the host's name is the node's then.
    fn has_network_of_host(&self) -> bool {
        self.hosts.starts_with("# Kubernetes-managed hosts file (host network)")
    }
}

/// Whether a host's name looks as that of a pod that a workload made, `checkout-7d9c5b6f4d-x2x9z` or `checkout-0`, so that it is no name that the pod was given
/// for its host.
fn is_pod_name(name: &str) -> bool {
    let Some((_, last)) = name.rsplit_once('-') else { return false };
    let is_random = last.len() == 5 && last.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    is_random || !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

/// The id of the pod whose `/etc/hosts` a line mounts: `/var/lib/kubelet/pods/{id}/etc-hosts`.
fn pod_uid_in(mount: &str) -> Option<&str> {
    mount.split_once("/pods/")?.1.split_once("/etc-hosts").map(|(id, _)| id)
}

/// A random one, version 4.
fn uuid() -> String {
    let bits = fastrand::u128(..) & !(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Docker, containerd, CRI-O and Podman name a container's control group by its id, or the folder of the files that they put into its `/etc`.
fn container_id() -> Option<String> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = cgroup.lines().find_map(id_in).or_else(|| mounts.lines().find_map(id_in_mount));
    found.map(str::to_owned)
}

/// The id in a line like `640 635 254:1 /docker/containers/{id}/hostname /etc/hostname rw`. What is mounted elsewhere may be a layer of an image, or,
/// outside of containers, another's.
fn id_in_mount(line: &str) -> Option<&str> {
    let mut words = line.split(' ').skip(3);
    let (root, mount) = (words.next()?, words.next()?);
    let folder = mount.starts_with("/etc/").then(|| root.rsplit_once("containers/"))??.1;
    id_in(folder.split('/').next()?)
}

/// The 64 hexadecimal digits of a line.
fn id_in(line: &str) -> Option<&str> {
    line.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_detector_finds_what_there_is() {
        let keys = |detector: Detector| -> Vec<String> {
            detector.detect().into_iter().map(|found| found.key.to_string()).collect()
        };
        assert_eq!(keys(Detector::Process), ["process.pid", "process.executable.path", "process.executable.name"]);
        assert!(keys(Detector::Host).contains(&"host.arch".to_owned()));
        assert!(keys(Detector::Os).contains(&"os.type".to_owned()));
    }

    #[test]
    fn each_instance_of_a_service_has_an_id() {
        let [first, second] = [uuid(), uuid()];
        assert_ne!(first, second);
        let dashes: Vec<_> = first.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((first.len(), dashes), (36, vec![8, 13, 18, 23]));
        assert!(first[14..].starts_with('4') && first[19..].starts_with(['8', '9', 'a', 'b']), "{first}");
    }

    #[test]
    fn pods() {
        let id = "9d52e7a1-8f0b-4c56-9d0e-4a1f0f6f3a11";
        let mount = format!("812 800 8:1 /var/lib/kubelet/pods/{id}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw");
        assert_eq!(pod_uid_in(&mount), Some(id));
        assert_eq!(pod_uid_in("812 800 8:1 / /etc/hosts rw - ext4 /dev/sda1 rw"), None);
        let pod = |hostname: &str, hosts: &str| Pod {
            namespace: Some("shop".to_owned()),
            hostname: Some(hostname.to_owned()),
            hosts: hosts.to_owned(),
            mounts: mount.clone(),
        };
        let detected = |pod: &Pod, told: &[(&str, &str)]| -> Vec<String> {
            let variables = [("KUBERNETES_SERVICE_HOST", "10.96.0.1")].iter().chain(told);
            let variables: std::collections::HashMap<_, _> = variables.copied().collect();
            let found = pod.detect(|name| variables.get(name).map(|value| (*value).to_owned()));
            found.iter().map(|found| format!("{}={}", found.key, found.value)).collect()
        };
        let (namespace, uid) = ("k8s.namespace.name=shop".to_owned(), format!("k8s.pod.uid={id}"));
        let with_name = |name: &str| vec![namespace.clone(), format!("k8s.pod.name={name}"), uid.clone()];
        let without_name = vec![namespace.clone(), uid.clone()];
        let hosts = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n";
        for name in ["checkout-7d9c5b6f4d-x2x9z", "checkout-0"] {
            assert_eq!(detected(&pod(name, hosts), &[]), with_name(name));
            assert_eq!(detected(&pod(name, hosts), &[("POD_NAME", "told")]), with_name("told"));
        }
        let of_node = pod("pool-1-x2x9z", "# Kubernetes-managed hosts file (host network).\n127.0.0.1\tlocalhost\n");
        assert_eq!(detected(&of_node, &[]), without_name);
        for hostname in ["frontend", "db.shop.svc.cluster.local", "shop-database"] {
            assert_eq!(detected(&pod(hostname, hosts), &[("POD_NAME", "")]), without_name, "{hostname}");
        }
        let told = [
            ("K8S_POD_NAME", "checkout-1"),
            ("POD_NAME", "other"),
            ("POD_NAMESPACE", "told"),
            ("OTEL_RESOURCE_ATTRIBUTES_NODE_NAME", "node-3"),
            ("CONTAINER_NAME", "web"),
            ("K8S_DEPLOYMENT_NAME", "checkout"),
        ];
        let expected = ["namespace.name=told", "pod.name=checkout-1", &format!("pod.uid={id}"), "node.name=node-3"];
        let expected = expected.into_iter().chain(["container.name=web", "deployment.name=checkout"]);
        assert_eq!(detected(&of_node, &told), expected.map(|pair| format!("k8s.{pair}")).collect::<Vec<_>>());
        assert!(of_node.detect(|_| None).is_empty(), "this is no pod");
    }

    #[test]
    fn container_ids() {
        let id = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
        let lines = [
            format!("12:pids:/docker/{id}"),
            format!("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-{id}.scope"),
            format!("1:name=systemd:/crio-{id}.scope"),
        ];
        assert!(lines.iter().all(|line| id_in(line) == Some(id)));
        let storage = "/var/lib/containers/storage";
        let mounts = [
            format!("640 635 254:1 /docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda1 rw"),
            format!(
                "640 635 0:25 {storage}/overlay-containers/{id}/userdata/hostname /etc/hostname rw - xfs /dev/sda rw"
            ),
        ];
        assert!(mounts.iter().all(|line| id_in_mount(line) == Some(id)));
        for other in [
            format!("635 512 0:51 / / rw - overlay overlay rw,upperdir={storage}/overlay/{id}/diff"),
            format!("640 29 0:52 / {storage}/overlay-containers/{id}/userdata/shm rw - tmpfs shm rw"),
        ] {
            assert_eq!(id_in_mount(&other), None);
        }
        assert_eq!(id_in("0::/user.slice/user-1000.slice"), None);
        assert_eq!(id_in(&format!("0::/{}", id.to_uppercase())), None);
    }
}
