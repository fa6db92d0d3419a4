//! The kernel programs: one row for each purpose. The loader and `onlooker doctor` use this table.

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// A tracepoint whose arguments have types, by BTF.
    Tracepoint,
    /// The exit of the kernel function that has the program's name.
    FunctionExit,
    /// The tracepoint at the entry of a system call.
    SystemCall,
}

/// Programs that together serve one purpose.
#[derive(Debug)]
pub(super) struct Probes {
    /// What `onlooker doctor` calls them.
    pub(super) name: &'static str,
    /// The sets of programs that serve the purpose, the best first. The first one that loads is attached.
    pub(super) sets: &'static [ProgramSet],
    pub(super) need: Need,
}

/// Programs that are attached in the same way.
#[derive(Debug)]
pub(super) struct ProgramSet {
    pub(super) hook: Hook,
    pub(super) programs: &'static [&'static str],
    /// The kernels that have the hooks.
    pub(super) kernels: &'static str,
}

/// What becomes of tracing if programs are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Tracing is impossible unless all programs of a set are attached.
    Required,
    /// Each program is attached if that is possible. This is lost if one is missing.
    Optional { without: &'static str },
}

impl Hook {
    /// The plural, for messages.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Tracepoint => "BTF tracepoints",
            Self::FunctionExit => "function exits",
            Self::SystemCall => "system call tracepoints",
        }
    }
}

pub(super) const RECORDER: Probes = Probes {
    name: "recorder",
    sets: &[
        ProgramSet {
            hook: Hook::Tracepoint,
            programs: &["sock_send_length", "sock_recv_length"],
            kernels: "since Linux 6.3",
        },
        // Does not work under lockdown, which Debian's and Amazon's kernels of these versions do not use by default.
        ProgramSet {
            hook: Hook::FunctionExit,
            programs: &[
                "tcp_sendmsg",
                "tcp_recvmsg",
                "tcp_sendpage",
                "unix_stream_sendmsg",
                "unix_stream_recvmsg",
                "unix_stream_sendpage",
            ],
            kernels: "since Linux 5.19, until 6.4",
        },
    ],
    need: Need::Required,
};

pub(super) const CONNECTIONS: Probes = Probes {
    name: "connections",
    sets: &[ProgramSet { hook: Hook::Tracepoint, programs: &["inet_sock_set_state"], kernels: "since Linux 4.16" }],
    need: Need::Required,
};

pub(super) const PROCESSES: Probes = Probes {
    name: "processes",
    sets: &[ProgramSet {
        hook: Hook::Tracepoint,
        programs: &["sched_process_exec", "sched_process_fork", "sched_process_exit", "cgroup_attach_task"],
        kernels: "all",
    }],
    need: Need::Optional { without: "processes are found at start-up only" },
};

pub(super) const LONG_SENDS: Probes = Probes {
    name: "long sends",
    sets: &[ProgramSet { hook: Hook::Tracepoint, programs: &["tcp_sendmsg_locked"], kernels: "since Linux 6.16" }],
    need: Need::Optional { without: "a call that begins with a large blocking write begins when that returned" },
};

pub(super) const LEFTOVERS: Probes = Probes {
    name: "leftovers",
    sets: &[ProgramSet { hook: Hook::Tracepoint, programs: &["tcp_destroy_sock"], kernels: "since Linux 4.16" }],
    need: Need::Optional {
        without: "a request that was not read when its connection was closed is reported when it is too old",
    },
};

/// Attached only while a selected process needs it, because every system call of the host then costs a little more.
pub(super) const EVENT_LOOPS: Probes = Probes {
    name: "event loops",
    sets: &[ProgramSet {
        hook: Hook::SystemCall,
        programs: &[
            "sys_enter_epoll_wait",
            "sys_enter_epoll_pwait",
            "sys_enter_epoll_pwait2",
            "sys_enter_poll",
            "sys_enter_ppoll",
            "sys_enter_select",
            "sys_enter_pselect6",
        ],
        kernels: "all",
    }],
    need: Need::Optional { without: "no parents by `tick`" },
};

/// What is attached when tracing starts, in this order.
pub(super) const AT_START: [&Probes; 5] = [&PROCESSES, &LONG_SENDS, &LEFTOVERS, &RECORDER, &CONNECTIONS];

impl Probes {
    /// The names of all programs, of every set.
    pub(super) fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.sets.iter().flat_map(|set| set.programs.iter().copied())
    }
}

impl ProgramSet {
    /// Such as "BTF tracepoints a, b".
    pub(super) fn describe(&self) -> String {
        format!("{} {}", self.hook.plural(), self.programs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

    use super::{AT_START, EVENT_LOOPS, Hook};

    /// What the name of a program's section begins with.
    fn section(hook: Hook) -> &'static str {
        match hook {
            Hook::Tracepoint => "tp_btf",
            Hook::FunctionExit => "fexit",
            Hook::SystemCall => "tracepoint",
        }
    }

    #[test]
    fn the_table_has_every_program_of_the_object_once_and_no_other() {
        let bytes = aya::include_bytes_aligned!(env!("ONLOOKER_EBPF_OBJECT"));
        let object = object::File::parse(bytes).unwrap();
        let programs: BTreeSet<_> = object
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_global())
            .filter_map(|symbol| {
                let section = object.section_by_index(symbol.section_index()?).ok()?.name().ok()?;
                // Functions that programs call are in `.text`.
                (section != ".text").then_some((section.split('/').next()?, symbol.name().ok()?))
            })
            .collect();
        let sets = AT_START.iter().chain([&&EVENT_LOOPS]).flat_map(|probes| probes.sets);
        let rows: Vec<_> =
            sets.flat_map(|set| set.programs.iter().map(|&program| (section(set.hook), program))).collect();
        assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), programs);
        assert_eq!(rows.len(), programs.len());
    }
}
