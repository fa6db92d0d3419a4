//! Says which processor the programs will run on: saved registers are read by name.

use std::env;

fn main() {
    println!("cargo:rerun-if-env-changed=CARGO_CFG_BPF_TARGET_ARCH");
    println!("cargo:rustc-check-cfg=cfg(bpf_target_arch, values(\"x86_64\", \"aarch64\"))");
    // Cargo sets it where the flags say `--cfg bpf_target_arch=...`, which aya's crates go by too; else the programs are for
    // the machine that builds them.
    let arch = env::var("CARGO_CFG_BPF_TARGET_ARCH").unwrap_or_else(|_| {
        let host = env::var("HOST").unwrap_or_default();
        host.split('-').next().unwrap_or_default().to_owned()
    });
    println!("cargo:rustc-cfg=bpf_target_arch=\"{arch}\"");
}
