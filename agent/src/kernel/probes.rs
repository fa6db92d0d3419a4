//! The kernel programs: one row each. The loader, `onlooker doctor` and docs/architecture.md follow this table.

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To a BTF tracepoint. Works under lockdown and without kprobes.
    BtfTracepoint,
    /// To the return of a kernel function. Needs ftrace.
    Fexit,
    /// To the entry of a kernel function. Needs ftrace. Attached only if something needs it.
    Fentry,
    /// To a system call's tracepoint. Attached only while an event loop needs it, because every system call of the host
    /// then costs a little more.
    SystemCall,
    /// To a function of a selected process, in which it was found. Other processes do not notice.
    Function,
    /// To the return of such a function.
    Return,
    /// To the TCP sockets of a cgroup.
    SocketOperations,
    /// To the sockets of a table, for what is sent on them.
    SocketMessage,
}

impl Kind {
    /// As reports and documentation call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BtfTracepoint => "BTF tracepoint",
            Self::Fexit => "fexit",
            Self::Fentry => "fentry",
            Self::SystemCall => "system call",
            Self::Function => "uprobe",
            Self::Return => "uretprobe",
            Self::SocketOperations => "sock_ops",
            Self::SocketMessage => "sk_msg",
        }
    }

    /// Whether such a program is loaded when something needs it, and not at the start.
    #[must_use]
    pub const fn is_on_demand(self) -> bool {
        !matches!(self, Self::BtfTracepoint | Self::Fexit)
    }
}

/// What is missing without a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// Tracing cannot work.
    Nothing,
    /// Tracing works, except for this.
    Less(&'static str),
}

/// A row of [`PROBES`].
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name of the program, and of the tracepoint or function that it is attached to.
    pub name: &'static str,
    pub kind: Kind,
    /// The finding of `onlooker doctor` that it belongs to.
    pub part: &'static str,
    /// What it observes.
    pub observes: &'static str,
    /// What the kernel must have.
    pub needs: &'static str,
    /// It is attached only if this other program cannot be.
    pub replaces: Option<&'static str>,
    pub without: Without,
}

/// A probe of the recorder.
pub const RECORDER: &str = "recorder";
/// The tracepoint of writes.
pub const SENDS: &str = "sock_send_length";
/// A probe that ends the ticks of event loops.
pub const EVENT_LOOPS: &str = "event loops";

/// A program that adds `traceparent` to requests.
pub const INJECTION: &str = "traceparent";
/// The program that enrols sockets.
pub const ENROL: &str = "onlooker_enrol";
/// The program that adds the line. Other agents recognise it by its name in the kernel.
pub const INJECT: &str = "onlooker_inject";
/// The same, where it cannot decide owner and ids itself. In the kernel it has the same name, which is cut.
pub const INJECT_DECIDED: &str = "onlooker_inject_decided";
/// The program that decides them.
pub const DECIDE: &str = "tcp_bpf_sendmsg";

const BTF: &str = "BTF";
const FEXIT: &str = "ftrace";
const PROCESSES: &str = "processes";

const fn fallback(name: &'static str, replaces: &'static str, observes: &'static str, without: Without) -> Probe {
    Probe { name, kind: Kind::Fexit, part: RECORDER, observes, needs: FEXIT, replaces: Some(replaces), without }
}

const fn process(name: &'static str, observes: &'static str, without: &'static str) -> Probe {
    let without = Without::Less(without);
    Probe { name, kind: Kind::BtfTracepoint, part: PROCESSES, observes, needs: BTF, replaces: None, without }
}

const fn node(name: &'static str, observes: &'static str) -> Probe {
    let without = Without::Less("calls of Node have no parents by `async-id`");
    Probe { name, kind: Kind::Function, part: "Node", observes, needs: "uprobes", replaces: None, without }
}

const fn node_http2(name: &'static str, observes: &'static str) -> Probe {
    let without = Without::Less("calls of Node over HTTP/2 have no parents by `async-id`");
    Probe { name, kind: Kind::Function, part: "Node", observes, needs: "uprobes", replaces: None, without }
}

const fn go_grpc(name: &'static str, observes: &'static str, without: &'static str) -> Probe {
    let without = Without::Less(without);
    Probe { name, kind: Kind::Function, part: "Go", observes, needs: "uprobes", replaces: None, without }
}

const NO_GRPC_CALLS: &str = "calls of grpc-go's client have no parent by `goroutine`";

const fn tls(name: &'static str, kind: Kind, observes: &'static str, without: &'static str) -> Probe {
    let without = Without::Less(without);
    Probe { name, kind, part: "TLS", observes, needs: "uprobes", replaces: None, without }
}

const NOT_READ: &str = "TLS of these libraries is not read";
const RUSTLS_NOT_READ: &str = "TLS of rustls is not read";
const GO_NOT_READ: &str = "TLS of Go programs is not read";
const GO_REUSED: &str = "connections of Go programs at reused addresses are one stream";

const fn boundary(name: &'static str) -> Probe {
    Probe {
        name,
        kind: Kind::SystemCall,
        part: EVENT_LOOPS,
        observes: "an event loop that begins to wait",
        needs: "tracefs",
        replaces: None,
        without: Without::Less("event loops that wait there have no parents by `tick`"),
    }
}

/// Every program. A program is loaded before those that replace it are tried.
pub const PROBES: &[Probe] = &[
    Probe {
        name: SENDS,
        kind: Kind::BtfTracepoint,
        part: RECORDER,
        observes: "every write to a socket, after it returned",
        needs: "Linux 6.3",
        replaces: None,
        without: Without::Nothing,
    },
    Probe {
        name: "sock_recv_length",
        kind: Kind::BtfTracepoint,
        part: RECORDER,
        observes: "every read from a socket, after it returned",
        needs: "Linux 6.3",
        replaces: None,
        without: Without::Nothing,
    },
    fallback("tcp_sendmsg", "sock_send_length", "every write to a TCP socket", Without::Nothing),
    fallback(
        "tcp_sendpage",
        "sock_send_length",
        "sendfile to a TCP socket",
        Without::Less("bytes that sendfile sent are a hole"),
    ),
    fallback(
        "mptcp_sendmsg",
        "sock_send_length",
        "every write to an MPTCP socket",
        Without::Less("MPTCP connections are not traced"),
    ),
    fallback(
        "unix_stream_sendmsg",
        "sock_send_length",
        "every write to a unix stream socket",
        Without::Less("unix sockets are not traced"),
    ),
    fallback(
        "unix_stream_sendpage",
        "sock_send_length",
        "sendfile to a unix stream socket",
        Without::Less("bytes that sendfile sent to unix sockets are not counted"),
    ),
    fallback("tcp_recvmsg", "sock_recv_length", "every read from a TCP socket", Without::Nothing),
    fallback(
        "mptcp_recvmsg",
        "sock_recv_length",
        "every read from an MPTCP socket",
        Without::Less("MPTCP connections are not traced"),
    ),
    fallback(
        "unix_stream_recvmsg",
        "sock_recv_length",
        "every read from a unix stream socket",
        Without::Less("unix sockets are not traced"),
    ),
    Probe {
        name: "inet_sock_set_state",
        kind: Kind::BtfTracepoint,
        part: RECORDER,
        observes: "connect, listen, FIN and close",
        needs: BTF,
        replaces: None,
        without: Without::Nothing,
    },
    process("sched_process_exec", "a process that executes a program", "processes are found at start-up only"),
    process("sched_process_fork", "a process that forks", "children of selected processes are not traced"),
    process("sched_process_exit", "a process that ends", "connections of ended processes stay open in the agent"),
    process(
        "cgroup_attach_task",
        "a process that is moved to a cgroup",
        "a process moved into a selected cgroup is not traced",
    ),
    Probe {
        name: "tcp_sendmsg_locked",
        kind: Kind::BtfTracepoint,
        part: "long sends",
        observes: "the beginning of a write that waits for buffer space",
        needs: "Linux 6.16",
        replaces: None,
        without: Without::Less("a call that begins with a large blocking write begins when the write returned"),
    },
    Probe {
        name: "tcp_destroy_sock",
        kind: Kind::BtfTracepoint,
        part: "leftovers",
        observes: "a TCP socket that is freed",
        needs: BTF,
        replaces: None,
        without: Without::Less("a request that is unread when its connection closes is reported at its age limit"),
    },
    boundary("sys_enter_epoll_wait"),
    boundary("sys_enter_epoll_pwait"),
    boundary("sys_enter_epoll_pwait2"),
    boundary("sys_enter_poll"),
    boundary("sys_enter_ppoll"),
    boundary("sys_enter_select"),
    boundary("sys_enter_pselect6"),
    Probe {
        name: "go_round_trip",
        kind: Kind::Function,
        part: "Go",
        observes: "`net/http.(*persistConn).roundTrip`: a goroutine that gives a request to a connection",
        needs: "uprobes",
        replaces: None,
        without: Without::Less("calls of Go's net/http client have no parent by `goroutine`"),
    },
    Probe {
        name: "go_run_handler",
        kind: Kind::Function,
        part: "Go",
        observes: "`net/http.(*http2serverConn).runHandler`: a goroutine that handles a request over HTTP/2",
        needs: "uprobes",
        replaces: None,
        without: Without::Less("calls of handlers over HTTP/2 have no parent by `goroutine`"),
    },
    go_grpc(
        "go_grpc_begin",
        "`transport.(*http2Server).operateHeaders`: the goroutine that reads from a connection of grpc-go's server",
        "calls of grpc-go's handlers have no parent by `goroutine`",
    ),
    go_grpc(
        "go_grpc_handle",
        "`grpc.(*Server).handleStream`: a goroutine that handles a request of grpc-go's server",
        "calls of grpc-go's handlers have no parent by `goroutine`",
    ),
    go_grpc(
        "go_grpc_call",
        "a return instruction of `transport.(*http2Client).createHeaderFields`: a goroutine that makes a call of grpc-go",
        NO_GRPC_CALLS,
    ),
    go_grpc(
        "go_grpc_headers",
        "`transport.(*loopyWriter).clientHeaderHandler`: a goroutine that writes for a connection of grpc-go",
        NO_GRPC_CALLS,
    ),
    tls("go_tls_read", Kind::Function, "`crypto/tls.(*Conn).Read`", GO_NOT_READ),
    tls("go_tls_write", Kind::Function, "`crypto/tls.(*Conn).Write`", GO_NOT_READ),
    tls("go_tls_read_returns", Kind::Function, "a return instruction of the former", GO_NOT_READ),
    tls("go_tls_write_returns", Kind::Function, "a return instruction of the latter", GO_NOT_READ),
    tls("go_tls_client_handshake", Kind::Function, "`crypto/tls.(*Conn).clientHandshake`", GO_REUSED),
    tls("go_tls_server_handshake", Kind::Function, "`crypto/tls.(*Conn).serverHandshake`", GO_REUSED),
    tls("tls_begins", Kind::Function, "a function of OpenSSL, BoringSSL or GnuTLS", NOT_READ),
    tls("tls_returned", Kind::Return, "such a function that returns", NOT_READ),
    tls("tls_returning", Kind::Function, "the same, at a return instruction", NOT_READ),
    tls("rustls_begins", Kind::Function, "a function of rustls that encrypts or decrypts a record", RUSTLS_NOT_READ),
    tls("rustls_returned", Kind::Return, "such a function that returns", RUSTLS_NOT_READ),
    tls("java_observe", Kind::Function, "plaintext that a JVM hands over (`--java`)", "TLS of JVMs is not read"),
    node("node_callbacks", "a loop of Node that begins to run timers, or callbacks of finished operations"),
    node("node_immediates", "a loop of Node with callbacks of `setImmediate`"),
    node_http2("node_session", "Node's `Http2Session`, which is made"),
    node_http2("node_stream", "Node's `Http2Stream`, which is made: a request of HTTP/2 that was read, or a call"),
    node_http2("node_sends", "`Http2Session::SendPendingData`: Node sends frames"),
    node_http2("node_frame", "`Http2Session::OnFrameReceive`: Node hands a frame over"),
    node_http2("node_data", "`Http2Session::OnDataChunkReceived`: Node hands a part of a body over"),
    node_http2("node_frames_end", "a return instruction of `Http2Session::OnStreamRead`: Node has handed frames over"),
    Probe {
        name: "tokio_wake",
        kind: Kind::Function,
        part: "tokio",
        observes: "tokio's `wake_by_val` and `wake_by_ref`: a task that wakes another",
        needs: "uprobes",
        replaces: None,
        without: Without::Less("calls that connections of hyper's client send have no parent by `task`"),
    },
    Probe {
        name: ENROL,
        kind: Kind::SocketOperations,
        part: INJECTION,
        observes: "a connection that a selected process opened (`--inject`)",
        needs: "cgroup v2",
        replaces: None,
        without: Without::Less("requests get no `traceparent`"),
    },
    Probe {
        name: INJECT,
        kind: Kind::SocketMessage,
        part: INJECTION,
        observes: "the first request on such a connection, to which it adds `traceparent`",
        needs: "Linux 6.16",
        replaces: None,
        without: Without::Less("requests get no `traceparent`"),
    },
    Probe {
        name: INJECT_DECIDED,
        kind: Kind::SocketMessage,
        part: INJECTION,
        observes: "the same, if the next program decided owner and ids",
        needs: "Linux 6.3",
        replaces: Some(INJECT),
        without: Without::Less("requests get no `traceparent`"),
    },
    Probe {
        name: DECIDE,
        kind: Kind::Fentry,
        part: INJECTION,
        observes: "`tcp_bpf_sendmsg`: data that is about to be sent on such a connection",
        needs: FEXIT,
        replaces: Some(INJECT),
        without: Without::Less("requests get no `traceparent`"),
    },
];

/// The programs that take the place of `name` if it cannot be loaded.
pub fn replacing(name: &str) -> impl Iterator<Item = &'static Probe> {
    PROBES.iter().filter(move |probe| probe.replaces == Some(name))
}

/// The parts, in the order in which `onlooker doctor` reports them.
#[must_use]
pub fn parts() -> Vec<&'static str> {
    let mut parts: Vec<_> = PROBES.iter().map(|probe| probe.part).collect();
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::fmt::Write as _;
    use std::{env, fs};

    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

    use super::*;
    use crate::kernel::object::OBJECT;

    #[test]
    fn the_table_has_every_program_of_the_object_and_no_other() {
        let object = object::File::parse(OBJECT).expect("it is ELF");
        let programs: BTreeSet<_> = object
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_global())
            .filter_map(|symbol| {
                let section = object.section_by_index(symbol.section_index()?).ok()?.name().ok()?;
                // `.text` has the functions that programs call.
                (section != ".text").then_some((section.split('/').next()?, symbol.name().ok()?))
            })
            .collect();
        let section = |kind| match kind {
            Kind::BtfTracepoint => "tp_btf",
            Kind::Fexit => "fexit",
            Kind::Fentry => "fentry",
            Kind::SystemCall => "tracepoint",
            Kind::Function => "uprobe",
            Kind::Return => "uretprobe",
            Kind::SocketOperations => "sockops",
            Kind::SocketMessage => "sk_msg",
        };
        let rows: BTreeSet<_> = PROBES.iter().map(|probe| (section(probe.kind), probe.name)).collect();
        assert_eq!(rows, programs);
    }

    /// Only what the kernel and the agent read. The kernel must know the functions, or it refuses those that are checked by themselves.
    #[test]
    fn the_object_has_functions_and_no_lines_of_the_source() {
        let object = object::File::parse(aya::include_bytes_aligned!(env!("ONLOOKER_EBPF_OBJECT"))).expect("it is ELF");
        let section = object.section_by_name(".BTF.ext").expect("it has BTF").data().unwrap();
        let length = |at: usize| u32::from_le_bytes(section[at..at + 4].try_into().unwrap());
        let [header, functions, lines] = [4, 12, 20].map(length);
        assert!(functions > 0 && lines == 0, "{functions} {lines}");
        assert_eq!(section.len(), (header + functions + length(28)) as usize);
        let names: Vec<_> = object.sections().filter_map(|section| Some(section.name().ok()?.to_owned())).collect();
        assert!(names.iter().all(|name| !name.contains("debug") && name != ".rel.BTF.ext"), "{names:?}");
    }

    #[test]
    fn a_program_replaces_one_that_is_tried_before_it() {
        let mut before = HashSet::new();
        for probe in PROBES {
            if let Some(replaced) = probe.replaces {
                assert!(before.contains(replaced), "{} replaces {replaced}", probe.name);
            }
            assert!(before.insert(probe.name), "{} has two rows", probe.name);
        }
    }

    #[test]
    fn every_part_is_one_block_of_rows() {
        let parts = parts();
        assert_eq!(parts.iter().collect::<HashSet<_>>().len(), parts.len(), "{parts:?}");
    }

    /// The table in docs/architecture.md, between these two lines.
    const BEGINS: &str = "<!-- probes: generated -->\n";
    const ENDS: &str = "<!-- /probes -->";

    fn table() -> String {
        let mut table = "| program | attached as | observes | needs | without it |\n|---|---|---|---|---|\n".to_owned();
        for probe in PROBES {
            let without = match (probe.without, probe.replaces) {
                (Without::Nothing, _) => "nothing can be traced",
                (Without::Less(what), _) => what,
            };
            let needs = match probe.replaces {
                Some(replaced) => format!("{}; replaces `{replaced}`", probe.needs),
                None => probe.needs.to_owned(),
            };
            writeln!(table, "| `{}` | {} | {} | {needs} | {without} |", probe.name, probe.kind.name(), probe.observes)
                .expect("a String takes everything");
        }
        table
    }

    #[test]
    fn the_documentation_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/architecture.md");
        let page = fs::read_to_string(path).expect("the page can be read");
        let (before, rest) = page.split_once(BEGINS).expect("the page says where the table begins");
        let (found, after) = rest.split_once(ENDS).expect("the page says where the table ends");
        if env::var_os("WRITE_DOCS").is_some() {
            fs::write(path, format!("{before}{BEGINS}{}{ENDS}{after}", table())).expect("the page can be written");
        } else {
            assert_eq!(found, table(), "docs/architecture.md differs from PROBES: run this test with WRITE_DOCS=1");
        }
    }
}
