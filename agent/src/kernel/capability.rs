//! What this kernel allows. Found by trying, not by the kernel's version.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::load::{Kernel, Options, TRACEFS};
use super::offsets::MissingField;
use super::probes::{self, EVENT_LOOPS, INJECTION, Kind, PROBES, Probe, RECORDER, Without};
use super::types::VMLINUX_BTF;

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found. If something is missing: why, and what to do.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Works,
    /// Tracing works, with less. The detail says what is lost.
    Reduced,
    /// Tracing cannot work.
    Missing,
}

/// The report of `onlooker doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub kernel: String,
    pub architecture: &'static str,
    pub can_trace: bool,
    pub findings: Vec<Finding>,
    pub missing_fields: Vec<MissingField>,
}

/// Checks the running kernel. Loads and attaches the programs with nothing selected, and detaches them again.
///
/// `injection` says whether `traceparent` can be added to requests, and `kubernetes` whether pods can be followed.
#[must_use]
pub fn examine(injection: &Result<(), String>, kubernetes: Finding) -> Report {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let capabilities = effective_capabilities();
    let mut findings = vec![privileges(capabilities), other_users(capabilities), btf(), lockdown()];
    let mut missing_fields = Vec::new();
    match Kernel::load(&Options::default()) {
        Err(error) => findings.push(Finding { name: "load", verdict: Verdict::Missing, detail: error.to_string() }),
        Ok(mut kernel) => {
            findings.push(Finding { name: "load", verdict: Verdict::Works, detail: "the maps are created".to_owned() });
            findings.push(functions(capabilities, kernel.multi().program(A_FUNCTION_PROGRAM).map(drop)));
            let recorder = kernel.attach(&[]).map_err(|error| error.to_string());
            kernel.attach_boundaries();
            kernel.try_functions();
            let parts = probes::parts().into_iter().filter(|&name| name != INJECTION);
            findings.extend(parts.map(|name| match &recorder {
                Err(error) if name == RECORDER => Finding { name, verdict: Verdict::Missing, detail: error.clone() },
                _ => part(name, &kernel),
            }));
            missing_fields.clone_from(&kernel.missing);
        }
    }
    findings.push(fields(&missing_fields));
    findings.push(propagation(injection));
    findings.push(kubernetes);
    let can_trace = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Report { kernel: release, architecture: std::env::consts::ARCH, can_trace, findings, missing_fields }
}

/// Bits of include/uapi/linux/capability.h; 0 if /proc cannot be read.
fn effective_capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("CapEff:").map(str::to_owned)))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// The names of the missing ones.
fn lacking(capabilities: u64, needed: &[(u32, &'static str)]) -> Vec<&'static str> {
    const CAP_SYS_ADMIN: u32 = 21;
    // CAP_BPF and CAP_PERFMON were split off from CAP_SYS_ADMIN, which still includes them.
    let included = |bit: u32| bit >= 38 && capabilities & (1 << CAP_SYS_ADMIN) != 0;
    needed.iter().filter(|(bit, _)| capabilities & (1 << bit) == 0 && !included(*bit)).map(|(_, name)| *name).collect()
}

fn privileges(capabilities: u64) -> Finding {
    const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
    let missing = lacking(capabilities, &NEEDED);
    if missing.is_empty() {
        Finding { name: "privileges", verdict: Verdict::Works, detail: "CAP_BPF and CAP_PERFMON".to_owned() }
    } else {
        let detail = format!("{} missing: run as root, or grant the capability", missing.join(" and "));
        Finding { name: "privileges", verdict: Verdict::Missing, detail }
    }
}

/// The smallest program that is attached to functions.
const A_FUNCTION_PROGRAM: &str = "node_callbacks";

/// Whether programs can be attached to functions. `multi` says why not to many with one link.
///
/// `kernel/events/core.c:perf_uprobe_event_init`: for a function by itself, CAP_PERFMON is not enough since 2025.
fn functions(capabilities: u64, multi: Result<(), String>) -> Finding {
    let (verdict, detail) = match multi {
        Ok(()) => (Verdict::Works, "one link for many functions".to_owned()),
        Err(why) if lacking(capabilities, &[(21, "CAP_SYS_ADMIN")]).is_empty() => {
            (Verdict::Works, format!("CAP_SYS_ADMIN; each function by itself, which is slow to detach ({why})"))
        }
        Err(why) => {
            let without = "newer releases of this kernel attach to no function of a program: TLS is not read, and fewer \
                           calls of Go, Node and tokio have parents";
            (Verdict::Reduced, format!("{without}: CAP_SYS_ADMIN missing ({why})"))
        }
    };
    Finding { name: "functions of programs", verdict, detail }
}

fn other_users(capabilities: u64) -> Finding {
    const NEEDED: [(u32, &str); 2] = [(19, "CAP_SYS_PTRACE"), (2, "CAP_DAC_READ_SEARCH")];
    let missing = lacking(capabilities, &NEEDED);
    let (verdict, detail) = if missing.is_empty() {
        (Verdict::Works, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH".to_owned())
    } else {
        let without =
            "processes of other users cannot be selected by --exe or --port, and their services have no names";
        (Verdict::Reduced, format!("{without}: {} missing", missing.join(" and ")))
    };
    Finding { name: "other users", verdict, detail }
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
        Some("confidentiality") => (
            Verdict::Missing,
            "confidentiality: programs may not read the memory of the kernel or of processes".to_owned(),
        ),
        Some(mode) => (Verdict::Works, format!("{mode}: Onlooker uses nothing that this mode forbids")),
        None => {
            (Verdict::Works, "unknown, because securityfs is not mounted; the checks below try what matters".to_owned())
        }
    };
    Finding { name: "lockdown", verdict, detail }
}

/// One part of [`PROBES`]: which programs are attached, and what is lost without the others.
fn part(name: &'static str, kernel: &Kernel) -> Finding {
    let rows = || PROBES.iter().filter(|probe| probe.part == name);
    let reason = |probe: &Probe| {
        let of = |wanted: &str| kernel.unavailable.iter().find(|(program, _)| *program == wanted);
        of(probe.name).or_else(|| if probe.kind == Kind::SystemCall { of(TRACEFS) } else { None }).map(|(_, why)| why)
    };
    let lost: Vec<String> = rows()
        .filter_map(|probe| match (reason(probe), probe.without) {
            (Some(why), Without::Less(what)) => Some(format!("{what}: {} ({why})", probe.name)),
            _ => None,
        })
        .collect();
    if !lost.is_empty() {
        return Finding { name, verdict: Verdict::Reduced, detail: lost.join("; ") };
    }
    let attached: Vec<&Probe> = if name == EVENT_LOOPS {
        rows().collect()
    } else {
        rows().filter(|row| kernel.attached.contains(row) || row.kind.is_on_demand()).collect()
    };
    let names = |kind: Kind| {
        let names: Vec<_> = attached.iter().filter(|probe| probe.kind == kind).map(|probe| probe.name).collect();
        if names.is_empty() { None } else { Some(format!("{} {}", kind.name(), names.join(", "))) }
    };
    let kinds = [
        Kind::BtfTracepoint,
        Kind::Fexit,
        Kind::Fentry,
        Kind::SystemCall,
        Kind::Function,
        Kind::Return,
        Kind::SocketOperations,
        Kind::SocketMessage,
    ];
    let detail: Vec<_> = kinds.into_iter().filter_map(names).collect();
    Finding { name, verdict: Verdict::Works, detail: detail.join("; ") }
}

/// Whether `--inject` works here.
fn propagation(outcome: &Result<(), String>) -> Finding {
    let (verdict, detail) = match outcome {
        Ok(()) => {
            let detail =
                "--inject adds it to first requests; the self-test passed: bytes intact, FIONREAD right, socket left";
            (Verdict::Works, detail.to_owned())
        }
        Err(why) => (Verdict::Reduced, format!("--inject adds nothing: {why}")),
    };
    Finding { name: INJECTION, verdict, detail }
}

fn fields(missing: &[MissingField]) -> Finding {
    if missing.is_empty() {
        return Finding { name: "fields", verdict: Verdict::Works, detail: "every struct member was found".to_owned() };
    }
    let list: Vec<_> =
        missing.iter().map(|field| format!("{}.{} ({})", field.structure, field.member, field.needed_for)).collect();
    let needed = missing.iter().any(|field| NEEDED_MEMBERS.contains(&(field.structure, field.member)));
    let verdict = if needed { Verdict::Missing } else { Verdict::Reduced };
    Finding { name: "fields", verdict, detail: format!("this kernel lacks {}", list.join(", ")) }
}

/// Without these, no operation is recorded: its process, or the type of its socket, would be unknown.
const NEEDED_MEMBERS: [(&str, &str); 4] =
    [("task_struct", "tgid"), ("sock_common", "skc_family"), ("sock", "sk_protocol"), ("sock", "sk_type")];

#[cfg(test)]
mod tests {
    use super::{MissingField, Verdict, fields, functions, lacking};

    #[test]
    fn missing_members_reduce_tracing_or_prevent_it() {
        let missing = |structure, member| fields(&[MissingField { structure, member, needed_for: "this" }]).verdict;
        assert_eq!(fields(&[]).verdict, Verdict::Works);
        assert_eq!(missing("unix_sock", "addr"), Verdict::Reduced);
        assert_eq!(missing("task_struct", "tgid"), Verdict::Missing);
    }

    #[test]
    fn links_of_many_functions_need_no_cap_sys_admin() {
        let refused = || Err("the kernel has no such links".to_owned());
        assert_eq!(functions(0, Ok(())).verdict, Verdict::Works);
        assert_eq!(functions(1 << 21, refused()).verdict, Verdict::Works);
        assert_eq!(functions(0, refused()).verdict, Verdict::Reduced);
    }

    #[test]
    fn cap_sys_admin_includes_cap_bpf_and_cap_perfmon() {
        const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (19, "CAP_SYS_PTRACE")];
        assert_eq!(lacking(0, &NEEDED), ["CAP_BPF", "CAP_SYS_PTRACE"]);
        assert_eq!(lacking(1 << 39, &NEEDED), ["CAP_SYS_PTRACE"]);
        assert_eq!(lacking(1 << 21, &NEEDED), ["CAP_SYS_PTRACE"]);
    }
}
