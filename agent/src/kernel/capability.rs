//! What this kernel allows, found by trying: never by its version alone.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::load::{BOUNDARIES, Kernel, Options, PROCESSES, RECORDER, SENDS, VMLINUX_BTF};
use super::offsets::MissingField;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found, or why it is missing and what can be done.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Works,
    /// Tracing works, with less: the detail says what is lost.
    Reduced,
    /// Tracing can't work.
    Missing,
}

/// Everything `onlooker doctor` tells.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub kernel: String,
    pub architecture: &'static str,
    pub can_trace: bool,
    pub findings: Vec<Finding>,
    pub missing_fields: Vec<MissingField>,
}

/// Looks at the running kernel. Loads and attaches the programs with nothing selected, and takes them away again.
#[must_use]
pub fn examine() -> Report {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let mut findings = vec![privileges(), btf(), lockdown()];
    let mut missing_fields = Vec::new();
    match Kernel::load(&Options::default()) {
        Err(error) => findings.push(Finding { name: "load", verdict: Verdict::Missing, detail: error.to_string() }),
        Ok(mut kernel) => {
            findings.push(Finding { name: "load", verdict: Verdict::Works, detail: "maps are made".to_owned() });
            findings.push(recorder(&mut kernel));
            kernel.attach_boundaries();
            findings.push(optional("processes", &PROCESSES, &kernel, "processes are found at start-up only"));
            findings.push(optional(
                "long sends",
                &SENDS,
                &kernel,
                "a call that begins with a large blocking write begins when that returned",
            ));
            findings.push(optional("event loops", &BOUNDARIES, &kernel, "no parents by `tick`"));
            missing_fields.clone_from(&kernel.missing);
        }
    }
    findings.push(fields(&missing_fields));
    let can_trace = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Report { kernel: release, architecture: std::env::consts::ARCH, can_trace, findings, missing_fields }
}

fn privileges() -> Finding {
    /// include/uapi/linux/capability.h
    const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
    const CAP_SYS_ADMIN: u32 = 21;
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("CapEff:").map(str::to_owned)))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0 || effective & (1 << CAP_SYS_ADMIN) != 0;
    let missing: Vec<_> = NEEDED.iter().filter(|(bit, _)| !has(*bit)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Finding { name: "privileges", verdict: Verdict::Works, detail: "CAP_BPF and CAP_PERFMON".to_owned() }
    } else {
        let detail = format!("{} missing: run as root, or grant it", missing.join(" and "));
        Finding { name: "privileges", verdict: Verdict::Missing, detail }
    }
}

fn btf() -> Finding {
    match fs::metadata(VMLINUX_BTF) {
        Ok(file) => {
            Finding { name: "btf", verdict: Verdict::Works, detail: format!("{VMLINUX_BTF}, {} KiB", file.len() >> 10) }
        }
        Err(error) => Finding {
            name: "btf",
            verdict: Verdict::Missing,
            detail: format!("{VMLINUX_BTF}: {error}; a kernel built with CONFIG_DEBUG_INFO_BTF=y is needed"),
        },
    }
}

fn lockdown() -> Finding {
    let path = Path::new("/sys/kernel/security/lockdown");
    let mode = fs::read_to_string(path).ok().and_then(|text| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    let (verdict, detail) = match mode.as_deref() {
        Some("confidentiality") => {
            (Verdict::Missing, "confidentiality: the kernel lets no program read what is traced".to_owned())
        }
        Some(mode) => (Verdict::Works, format!("{mode}: nothing that Onlooker uses is locked")),
        None => (Verdict::Works, "not known (securityfs is not mounted): what matters is tried below".to_owned()),
    };
    Finding { name: "lockdown", verdict, detail }
}

fn recorder(kernel: &mut Kernel) -> Finding {
    match kernel.attach() {
        Ok(()) => Finding {
            name: "recorder",
            verdict: Verdict::Works,
            detail: format!("BTF tracepoints {}: no kprobes needed", RECORDER.join(", ")),
        },
        Err(error) => Finding {
            name: "recorder",
            verdict: Verdict::Missing,
            detail: format!("{error}; the tracepoints sock_send_length and sock_recv_length came with Linux 6.3"),
        },
    }
}

fn optional(name: &'static str, programs: &[&str], kernel: &Kernel, without: &str) -> Finding {
    let lost: Vec<_> = kernel
        .unavailable
        .iter()
        .filter(|(program, _)| programs.contains(program) || (*program == "tracefs" && name == "event loops"))
        .map(|(program, why)| format!("{program} ({why})"))
        .collect();
    if lost.is_empty() {
        Finding { name, verdict: Verdict::Works, detail: programs.join(", ") }
    } else {
        Finding { name, verdict: Verdict::Reduced, detail: format!("{without}: {}", lost.join(", ")) }
    }
}

fn fields(missing: &[MissingField]) -> Finding {
    if missing.is_empty() {
        return Finding { name: "fields", verdict: Verdict::Works, detail: "every member is known".to_owned() };
    }
    let list: Vec<_> =
        missing.iter().map(|field| format!("{}.{} ({})", field.structure, field.member, field.needed_for)).collect();
    Finding { name: "fields", verdict: Verdict::Reduced, detail: format!("not in this kernel: {}", list.join(", ")) }
}
