//! The container that a process runs in. It is read from the process's cgroup, or from its mounts where a cgroup
//! namespace hides the cgroup.
//!
//! The kubelet names the cgroup of a pod after the pod's uid, and the runtime names the cgroup below it after the container's
//! id. So both are known without asking anybody.

use super::process::Process;

/// Docker, containerd, CRI-O and podman use 64 hex digits.
const ID_LENGTH: usize = 64;

/// A container, as the cgroup of a process names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    /// The id that the runtime gave it. In a pod, it is the pod's container, also if a process runs in a container inside of that.
    pub id: String,
    /// Whether it belongs to a Kubernetes pod.
    pub is_in_pod: bool,
    /// The uid of the pod, in lower case and with dashes. For a static pod it is the hash of its manifest.
    pub pod_uid: Option<String>,
    /// The name of the container within its pod, if the kubelet's mounts show it.
    pub name: Option<String>,
}

/// The container that the process runs in, if it runs in one.
#[must_use]
pub fn of(process: &Process) -> Option<Container> {
    find(&process.cgroups().ok()?, || process.mountinfo().unwrap_or_default())
}

/// The container in the text of /proc/PID/cgroup, or else in that of /proc/PID/mountinfo.
fn find(cgroups: &str, mountinfo: impl FnOnce() -> String) -> Option<Container> {
    let Some(mut container) = in_cgroups(cgroups) else {
        return in_mounts(&mountinfo()).map(|id| container(id, false, None));
    };
    if container.is_in_pod
        && let Some((uid, name)) = in_kubelets_mounts(&mountinfo(), container.pod_uid.as_deref())
    {
        container.pod_uid.get_or_insert(uid);
        container.name = Some(name);
    }
    Some(container)
}

fn container(id: &str, is_in_pod: bool, pod_uid: Option<String>) -> Container {
    Container { id: id.to_owned(), is_in_pod, pod_uid, name: None }
}

/// The container that the cgroups name. With version 1 there are several, of which one that names a pod says most.
fn in_cgroups(cgroups: &str) -> Option<Container> {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut found: Option<Container> = None;
    for container in paths.filter_map(in_path) {
        if container.pod_uid.is_some() {
            return Some(container);
        }
        found.get_or_insert(container);
    }
    found
}

/// `/docker/ID`, `/system.slice/docker-ID.scope`, `/kubepods/burstable/podUID/ID`,
/// `/kubepods.slice/.../kubepods-burstable-podUID.slice/cri-containerd-ID.scope`, `.../crio-ID`,
/// `/machine.slice/libpod-ID.scope/container`, `/system.slice/containerd.service/kubepods-podUID.slice:cri-containerd:ID`.
fn in_path(path: &str) -> Option<Container> {
    let components = || path.split('/');
    if let Some((index, uid)) = components().enumerate().find_map(|(index, name)| Some((index, pod_uid(name)?))) {
        // Of containers in containers, the pod's own. The sandbox and its processes are beside it.
        let (_, id) = components().skip(index).find_map(id)?;
        return Some(container(id, true, Some(uid)));
    }
    // The innermost one, if containers run in containers.
    let (runtime, id) = path.rsplit('/').find_map(id)?;
    let is_kubernetes =
        matches!(runtime, "cri-containerd" | "crio") || components().any(|name| name.starts_with("kubepods"));
    Some(container(id, is_kubernetes, None))
}

/// The runtime's name, which may be missing, and the id, if a component of a path has them.
fn id(component: &str) -> Option<(&str, &str)> {
    let component = component.strip_suffix(".scope").unwrap_or(component);
    let (runtime, id) = component.rsplit_once([':', '-']).unwrap_or(("", component));
    // conmon supervises a container from outside.
    (is_id(id) && !runtime.ends_with("conmon")).then_some((runtime, id))
}

/// The uid in the name of a pod's cgroup: `podUID`, or `kubepods-burstable-podUID.slice` with underscores for dashes, which
/// separate the levels of slices. Of a static pod: the 32 digits of a hash.
fn pod_uid(component: &str) -> Option<String> {
    let slice = component.split(':').next()?;
    let (before, uid) = slice.strip_suffix(".slice").unwrap_or(slice).rsplit_once("pod")?;
    (before.is_empty() || before.ends_with('-')).then_some(())?;
    normal_uid(uid)
}

/// A uid in lower case with dashes, or a hash.
fn normal_uid(text: &str) -> Option<String> {
    const HASH_LENGTH: usize = 32;
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.len() == HASH_LENGTH && is_hex(text) {
        return Some(text.to_ascii_lowercase());
    }
    let groups: Vec<_> = text.split(['-', '_']).collect();
    let is_uid = groups.iter().map(|group| group.len()).eq(GROUPS) && groups.iter().all(|group| is_hex(group));
    is_uid.then(|| groups.join("-").to_ascii_lowercase())
}

/// The uid of the pod and the name of the container, which the kubelet's file for the termination message shows:
/// `/var/lib/kubelet/pods/UID/containers/NAME/HASH`. The folder of the kubelet may be elsewhere.
fn in_kubelets_mounts(mountinfo: &str, expected: Option<&str>) -> Option<(String, String)> {
    let mut mounts = mountinfo.lines().filter_map(|line| {
        let source = line.split(' ').nth(3)?;
        let (_, inside) = source.split_once("/pods/")?;
        let mut parts = inside.split('/');
        let (uid, folder, name) = (normal_uid(parts.next()?)?, parts.next()?, parts.next()?);
        let is_file = parts.next().is_some_and(|hash| !hash.is_empty()) && parts.next().is_none();
        let is_expected = expected.is_none_or(|expected| expected == uid);
        (folder == "containers" && !name.is_empty() && is_file && is_expected).then(|| (uid, name.to_owned()))
    });
    let first = mounts.next()?;
    // Several may be those of other containers.
    mounts.all(|other| other == first).then_some(first)
}

/// Files that docker and podman mount into a container, from a folder that is named after its id.
fn in_mounts(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (source, point) = (fields.next()?, fields.next()?);
        // A host has its containers' mounts too, but at other paths.
        matches!(point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf").then_some(())?;
        let (_, inside) = source.split_once("/containers/").or_else(|| source.split_once("/overlay-containers/"))?;
        inside.split('/').find(|component| is_id(component))
    })
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
