//! The id of the container that a process runs in. It is read from the process's cgroup, or from its mounts where a cgroup
//! namespace hides the cgroup.

use super::process::Process;

/// Docker, containerd, CRI-O and podman use 64 hex digits.
const ID_LENGTH: usize = 64;

/// The id of the container that the process runs in, if it runs in one.
#[must_use]
pub fn of(process: &Process) -> Option<String> {
    id(&process.cgroups().ok()?, || process.mountinfo().unwrap_or_default())
}

/// The id in the text of /proc/PID/cgroup, or else in that of /proc/PID/mountinfo.
fn id(cgroups: &str, mountinfo: impl FnOnce() -> String) -> Option<String> {
    in_cgroups(cgroups).map(str::to_owned).or_else(|| in_mounts(&mountinfo()).map(str::to_owned))
}

/// `/docker/ID`, `/system.slice/docker-ID.scope`, `/kubepods/burstable/podUID/ID`,
/// `/kubepods.slice/.../cri-containerd-ID.scope`, `.../crio-ID`, `/machine.slice/libpod-ID.scope/container`,
/// `/system.slice/containerd.service/kubepods-...:cri-containerd:ID`.
fn in_cgroups(cgroups: &str) -> Option<&str> {
    cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(|path| {
        // The innermost one, if containers run in containers.
        path.rsplit('/').find_map(|component| {
            let component = component.strip_suffix(".scope").unwrap_or(component);
            let (runtime, id) = component.rsplit_once([':', '-']).unwrap_or(("", component));
            // conmon supervises a container from outside.
            (is_id(id) && !runtime.ends_with("conmon")).then_some(id)
        })
    })
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
mod tests {
    use rstest::rstest;

    use super::*;

    const ID: &str = "4ac0b7b2a3f4e5d6c7b8a9900112233445566778899aabbccddeeff001122334";
    const OTHER: &str = "ffffb7b2a3f4e5d6c7b8a9900112233445566778899aabbccddeeff001122334";

    #[rstest]
    #[case::docker_v1("12:pids:/docker/ID\n0::/system.slice/containerd.service", true)]
    #[case::docker_v2("0::/system.slice/docker-ID.scope", true)]
    #[case::kubernetes_cgroupfs("11:cpu:/kubepods/burstable/pod0b1c7b1e-1c5f-4a3e-a0a5-3f1a7f0f7f7f/ID", true)]
    #[case::kubernetes_systemd(
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-ID.scope",
        true
    )]
    #[case::kubernetes_crio("0::/kubepods.slice/kubepods-pod1.slice/crio-ID.scope", true)]
    #[case::containerd_colon(
        "1:name=systemd:/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID",
        true
    )]
    #[case::podman("0::/machine.slice/libpod-ID.scope/container", true)]
    #[case::podman_below("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", true)]
    #[case::seen_from_a_namespace("0::/../docker-ID.scope", true)]
    #[case::in_docker_in_docker("0::/docker/OTHER/docker/ID", true)]
    #[case::conmon("0::/machine.slice/libpod-conmon-ID.scope", false)]
    #[case::service("0::/system.slice/shop.service", false)]
    #[case::user("0::/user.slice/user-1000.slice/session-3.scope", false)]
    #[case::namespace_root("0::/", false)]
    #[case::shorter("0::/docker/4ac0b7b2a3f4", false)]
    #[case::nothing("", false)]
    fn the_container_is_found_in_the_cgroup(#[case] cgroups: &str, #[case] found: bool) {
        let cgroups = cgroups.replace("OTHER", OTHER).replace("ID", ID);
        assert_eq!(id(&cgroups, String::new).as_deref(), found.then_some(ID));
    }

    #[rstest]
    #[case::docker("900 880 254:1 /var/lib/docker/containers/ID/hostname /etc/hostname rw - ext4 /dev/vda1 rw", true)]
    #[case::podman(
        "900 880 0:50 /containers/storage/overlay-containers/ID/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw",
        true
    )]
    #[case::on_the_host("900 27 0:60 / /var/lib/docker/containers/ID/mounts/shm rw - tmpfs shm rw", false)]
    #[case::sandbox_of_a_pod(
        "900 880 254:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/ID/hostname /etc/hostname rw - ext4 /dev/vda1 rw",
        false
    )]
    #[case::cut("900 880 254:1 /var/lib/docker/containers/ID", false)]
    fn the_container_is_found_in_the_mounts(#[case] mountinfo: &str, #[case] found: bool) {
        let mountinfo = mountinfo.replace("ID", ID);
        assert_eq!(id("0::/\n", || mountinfo).as_deref(), found.then_some(ID));
    }
}
