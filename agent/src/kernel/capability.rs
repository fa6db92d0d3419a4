//! What this kernel allows, found by trying: never by its version alone.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::load::{Kernel, Options, VMLINUX_BTF};
use super::offsets::MissingField;
use super::probes::{EVENT_LOOPS, LEFTOVERS, LONG_SENDS, Need, PROCESSES, Probes, ProgramSet, RECORDER};

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
    let capabilities = effective_capabilities();
    let mut findings = vec![privileges(capabilities), other_users(capabilities), btf(), lockdown()];
    let mut missing_fields = Vec::new();
    match Kernel::load(&Options::default()) {
        Err(error) => findings.push(Finding { name: "load", verdict: Verdict::Missing, detail: error.to_string() }),
        Ok(mut kernel) => {
            findings.push(Finding { name: "load", verdict: Verdict::Works, detail: "maps are made".to_owned() });
            findings.push(recorder(&mut kernel));
            kernel.attach_boundaries();
            findings
                .extend([&PROCESSES, &LONG_SENDS, &LEFTOVERS, &EVENT_LOOPS].map(|probes| optional(probes, &kernel)));
            missing_fields.clone_from(&kernel.missing);
        }
    }
    findings.push(fields(&missing_fields));
    let can_trace = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Report { kernel: release, architecture: std::env::consts::ARCH, can_trace, findings, missing_fields }
}

/// Bits by include/uapi/linux/capability.h; none where /proc does not tell.
fn effective_capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("CapEff:").map(str::to_owned)))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// The names of those that are not there.
fn lacking(capabilities: u64, needed: &[(u32, &'static str)]) -> Vec<&'static str> {
    const CAP_SYS_ADMIN: u32 = 21;
    // Before CAP_BPF and CAP_PERFMON it was all of them, and still stands for these two.
    let stands_for = |bit: u32| bit >= 38 && capabilities & (1 << CAP_SYS_ADMIN) != 0;
    needed
        .iter()
        .filter(|(bit, _)| capabilities & (1 << bit) == 0 && !stands_for(*bit))
        .map(|(_, name)| *name)
        .collect()
}

fn privileges(capabilities: u64) -> Finding {
    const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
    let missing = lacking(capabilities, &NEEDED);
    if missing.is_empty() {
        Finding { name: "privileges", verdict: Verdict::Works, detail: "CAP_BPF and CAP_PERFMON".to_owned() }
    } else {
        let detail = format!("{} missing: run as root, or grant it", missing.join(" and "));
        Finding { name: "privileges", verdict: Verdict::Missing, detail }
    }
}

fn other_users(capabilities: u64) -> Finding {
    const NEEDED: [(u32, &str); 2] = [(19, "CAP_SYS_PTRACE"), (2, "CAP_DAC_READ_SEARCH")];
    let missing = lacking(capabilities, &NEEDED);
    let (verdict, detail) = if missing.is_empty() {
        (Verdict::Works, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH".to_owned())
    } else {
        let without = "other users' processes cannot be selected by --exe or --port, nor their services named";
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
        Some("confidentiality") => {
            (Verdict::Missing, "confidentiality: the kernel lets no program read what is traced".to_owned())
        }
        Some(mode) => (Verdict::Works, format!("{mode}: nothing that Onlooker uses is locked")),
        None => (Verdict::Works, "not known (securityfs is not mounted): what matters is tried below".to_owned()),
    };
    Finding { name: "lockdown", verdict, detail }
}

fn recorder(kernel: &mut Kernel) -> Finding {
    let (verdict, detail) = match kernel.attach() {
        Ok(()) => (Verdict::Works, kernel.recorder.map(ProgramSet::describe).unwrap_or_default()),
        Err(error) => (Verdict::Missing, error.to_string()),
    };
    Finding { name: RECORDER.name, verdict, detail }
}

fn optional(probes: &Probes, kernel: &Kernel) -> Finding {
    let is_lost = |program: &str| {
        probes.programs().any(|name| name == program) || (program == "tracefs" && probes.name == EVENT_LOOPS.name)
    };
    let lost: Vec<_> = kernel
        .unavailable
        .iter()
        .filter(|(program, _)| is_lost(program))
        .map(|(program, why)| format!("{program} ({why})"))
        .collect();
    let (verdict, detail) = match probes.need {
        Need::Optional { without } if !lost.is_empty() => (Verdict::Reduced, format!("{without}: {}", lost.join(", "))),
        _ => (Verdict::Works, probes.programs().collect::<Vec<_>>().join(", ")),
    };
    Finding { name: probes.name, verdict, detail }
}

fn fields(missing: &[MissingField]) -> Finding {
    if missing.is_empty() {
        return Finding { name: "fields", verdict: Verdict::Works, detail: "every member is known".to_owned() };
    }
    let list: Vec<_> =
        missing.iter().map(|field| format!("{}.{} ({})", field.structure, field.member, field.needed_for)).collect();
    let needed = missing.iter().any(|field| NEEDED_MEMBERS.contains(&(field.structure, field.member)));
    let verdict = if needed { Verdict::Missing } else { Verdict::Reduced };
    Finding { name: "fields", verdict, detail: format!("not in this kernel: {}", list.join(", ")) }
}

/// Without them no operation is recorded: whose it would be, or whether it is a stream's.
const NEEDED_MEMBERS: [(&str, &str); 4] =
    [("task_struct", "tgid"), ("sock_common", "skc_family"), ("sock", "sk_protocol"), ("sock", "sk_type")];

#[cfg(test)]
mod tests {
    use super::{MissingField, Verdict, fields, lacking};

    #[test]
    fn without_some_members_nothing_can_be_recorded() {
        let missing = |structure, member| fields(&[MissingField { structure, member, needed_for: "this" }]).verdict;
        assert_eq!(fields(&[]).verdict, Verdict::Works);
        assert_eq!(missing("unix_sock", "addr"), Verdict::Reduced);
        assert_eq!(missing("task_struct", "tgid"), Verdict::Missing);
    }

    #[test]
    fn the_old_capability_stands_for_the_two_that_came_of_it() {
        const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (19, "CAP_SYS_PTRACE")];
        assert_eq!(lacking(0, &NEEDED), ["CAP_BPF", "CAP_SYS_PTRACE"]);
        assert_eq!(lacking(1 << 39, &NEEDED), ["CAP_SYS_PTRACE"]);
        assert_eq!(lacking(1 << 21, &NEEDED), ["CAP_SYS_PTRACE"]);
    }
}
