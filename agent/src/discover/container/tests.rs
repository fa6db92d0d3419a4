//! Paths as the drivers of Docker, containerd, CRI-O, podman and the kubelet name them.

use rstest::rstest;

use super::*;

const ID: &str = "4ac0b7b2a3f4e5d6c7b8a9900112233445566778899aabbccddeeff001122334";
const OTHER: &str = "ffffb7b2a3f4e5d6c7b8a9900112233445566778899aabbccddeeff001122334";
const UID: &str = "0b1c7b1e-1c5f-4a3e-a0a5-3f1a7f0f7f7f";
const HASH: &str = "a5b4f7c1d2e3f40516273849aabbccdd";

fn written(text: &str) -> String {
    let text = text.replace("SLICE_UID", &UID.replace('-', "_")).replace("UID", UID);
    text.replace("OTHER", OTHER).replace("HASH", HASH).replace("ID", ID)
}

#[rstest]
#[case::docker_v1("12:pids:/docker/ID\n0::/system.slice/containerd.service", true)]
#[case::docker_v2("0::/system.slice/docker-ID.scope", true)]
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
fn the_container_is_found_in_the_cgroup(#[case] cgroups: &str, #[case] is_found: bool) {
    let found = find(&written(cgroups), String::new);
    assert_eq!(found, is_found.then(|| container(ID, false, None)));
}

#[rstest]
#[case::cgroupfs_v1("11:cpu,cpuacct:/kubepods/burstable/podUID/ID\n1:name=systemd:/kubepods/burstable/podUID/ID", UID)]
#[case::cgroupfs_v2("0::/kubepods/besteffort/podUID/ID", UID)]
#[case::cgroupfs_guaranteed("0::/kubepods/podUID/ID", UID)]
#[case::cgroupfs_crio("0::/kubepods/burstable/podUID/crio-ID", UID)]
#[case::cgroupfs_below_a_root("0::/kubelet/kubepods/burstable/podUID/ID", UID)]
#[case::systemd_containerd(
    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podSLICE_UID.slice/cri-containerd-ID.scope",
    UID
)]
#[case::systemd_guaranteed("0::/kubepods.slice/kubepods-podSLICE_UID.slice/cri-containerd-ID.scope", UID)]
#[case::systemd_v1(
    "4:memory:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICE_UID.slice/cri-containerd-ID.scope\n0::/",
    UID
)]
#[case::systemd_docker(
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICE_UID.slice/docker-ID.scope",
    UID
)]
#[case::systemd_crio(
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICE_UID.slice/crio-ID.scope",
    UID
)]
#[case::crio_below(
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICE_UID.slice/crio-ID.scope/container",
    UID
)]
#[case::kind(
    "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podSLICE_UID.slice/cri-containerd-ID.scope",
    UID
)]
#[case::containerd_with_the_other_driver(
    "1:name=systemd:/system.slice/containerd.service/kubepods-besteffort-podSLICE_UID.slice:cri-containerd:ID",
    UID
)]
#[case::containerd_at_the_top("0::/kubepods-burstable-podSLICE_UID.slice:cri-containerd:ID", UID)]
#[case::static_pod("0::/kubepods/burstable/podHASH/ID", HASH)]
#[case::static_pod_systemd(
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podHASH.slice/cri-containerd-ID.scope",
    HASH
)]
#[case::upper_case_uid("0::/kubepods/pod0B1C7B1E-1C5F-4A3E-A0A5-3F1A7F0F7F7F/ID", UID)]
#[case::seen_from_another_pod(
    "0::/../../../kubepods-besteffort.slice/kubepods-besteffort-podSLICE_UID.slice/cri-containerd-ID.scope",
    UID
)]
#[case::docker_in_a_pod("0::/kubepods/burstable/podUID/ID/docker/OTHER", UID)]
#[case::systemd_in_a_pod(
    "0::/kubepods.slice/kubepods-podSLICE_UID.slice/cri-containerd-ID.scope/system.slice/shop.service",
    UID
)]
#[case::the_line_of_the_pod_counts("2:pids:/docker/OTHER\n1:cpu:/kubepods/podUID/ID", UID)]
fn the_cgroup_of_a_container_in_a_pod_names_the_pod(#[case] cgroups: &str, #[case] uid: &str) {
    let expected = container(ID, true, Some(uid.to_owned()));
    assert_eq!(find(&written(cgroups), String::new), Some(expected));
}

#[rstest]
#[case::containerd("0::/../cri-containerd-ID.scope", true)]
#[case::crio("0::/../crio-ID.scope", true)]
#[case::no_uid("0::/kubepods/burstable/podabc/ID", true)]
#[case::docker("0::/../docker-ID.scope", false)]
fn a_container_of_a_pod_is_recognised_without_the_uid(#[case] cgroups: &str, #[case] is_in_pod: bool) {
    assert_eq!(find(&written(cgroups), String::new), Some(container(ID, is_in_pod, None)));
}

#[rstest]
#[case::the_pods_own_cgroup("0::/kubepods/burstable/podUID")]
#[case::conmon("0::/kubepods.slice/kubepods-podSLICE_UID.slice/crio-conmon-ID.scope")]
#[case::kubelet("0::/system.slice/kubelet.service")]
#[case::only_similar("0::/tripodUID")]
#[case::nonsense("0::/pod/pod-/pod.slice/-pod:.slice::")]
fn what_is_no_container_is_not_taken_for_one(#[case] cgroups: &str) {
    assert_eq!(find(&written(cgroups), String::new), None);
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
fn the_container_is_found_in_the_mounts(#[case] mountinfo: &str, #[case] is_found: bool) {
    assert_eq!(find("0::/\n", || written(mountinfo)), is_found.then(|| container(ID, false, None)));
}

#[rstest]
#[case::kubelet("/var/lib/kubelet/pods/UID/containers/shop/7a6f1d2c /dev/termination-log", Some("shop"))]
#[case::kubelet_on_a_disk_of_its_own("/pods/UID/containers/shop/7a6f1d2c /dev/termination-log", Some("shop"))]
#[case::own_path("/var/lib/kubelet/pods/UID/containers/shop/7a6f1d2c /app/last-words", Some("shop"))]
#[case::other_pod("/var/lib/kubelet/pods/ffff7b1e-1c5f-4a3e-a0a5-3f1a7f0f7f7f/containers/shop/7a6f1d2c /dev/log", None)]
#[case::volume("/var/lib/kubelet/pods/UID/volumes/kubernetes.io~configmap/shop /etc/shop", None)]
#[case::folder("/var/lib/kubelet/pods/UID/containers/shop /containers", None)]
#[case::below("/var/lib/kubelet/pods/UID/containers/shop/7a6f1d2c/x /x", None)]
#[case::two_names(
    "/var/lib/kubelet/pods/UID/containers/shop/7a6f1d2c /a rw - ext4 d rw\n901 1 8:1 /var/lib/kubelet/pods/UID/containers/other/7a6f1d2c /b",
    None
)]
fn the_kubelets_mounts_name_the_container(#[case] mount: &str, #[case] name: Option<&str>) {
    let mountinfo = written(&format!("900 880 254:1 {mount} rw - ext4 /dev/vda1 rw"));
    let found = find(&written("0::/kubepods/podUID/ID"), || mountinfo).unwrap();
    assert_eq!((found.name.as_deref(), found.pod_uid.as_deref()), (name, Some(UID)));
}

#[test]
fn the_kubelets_mounts_name_the_pod_where_the_cgroup_does_not() {
    let mountinfo = "900 1 8:1 /var/lib/kubelet/pods/UID/containers/shop/7a6f1d2c /dev/termination-log rw - ext4 d rw";
    let found = find(&written("0::/../cri-containerd-ID.scope"), || written(mountinfo)).unwrap();
    assert_eq!((found.name.as_deref(), found.pod_uid.as_deref()), (Some("shop"), Some(UID)));
}
