//! Every capacity of the kernel programs, with its reason.

/// Processes selected at once. An entry has 96 bytes; all are preallocated, because tracing programs may not allocate.
pub const PROCESSES: u32 = 16_384;

/// Slots of the census of selected processes: a power of two. With a thousand selected processes, 6 % of the others share
/// a slot with one and are looked up in vain.
pub const CENSUS: u32 = 16_384;

/// Cgroups selected at once.
pub const CGROUPS: u32 = 256;

/// Beginnings of program names that select processes: as many as a command line has selectors.
pub const NAMES: u32 = 1024;

/// Words of the set of selected ports: a bit for each.
pub const PORT_WORDS: u32 = (1 << 16) / 64;

/// Executables for which it is remembered whether they are selected.
pub const VERDICTS: u32 = 4096;

/// How long a process is recorded without a decision. The agent decides within a millisecond, unless the host is busy.
pub const UNDECIDED_NANOS: u64 = 1_000_000_000;

/// How many bytes of such a process are recorded.
pub const UNDECIDED_BYTES: i64 = 1 << 20;

/// How many levels of a process's cgroup path are checked for a selected one. Kubernetes nests five levels.
pub const CGROUP_DEPTH: i32 = 16;

/// Listening sockets that existed before the agent: pairs of network namespace and port.
pub const LISTENERS: u32 = 16_384;

/// Server connections whose requests are tracked by both kernel and agent, in processes that make calls.
pub const REQUESTS: u32 = 65_536;

/// Processes whose unit of work is read.
pub const UNIT_SOURCES: u32 = 4_096;

/// Units of work (goroutines, virtual threads, tasks) whose request is known, of all processes. The one that was used least
/// lately is forgotten; what it calls then has no owner.
pub const UNITS: u32 = 32_768;

/// Goroutines that read requests, of all Go programs, for which is known what they started since. The one that was used least lately is
/// forgotten; goroutines that it starts for its request then have no owner. One takes one KiB, which is preallocated.
pub const STARTERS: u32 = 2048;

/// The most processors (`GOMAXPROCS`) of a Go program in which is known what a goroutine started since it read a request.
pub const GO_PROCESSORS: u32 = 64;

/// Calls whose owner was announced before another unit of work sends them, of all processes. They are sent within
/// microseconds.
pub const ANNOUNCED_CALLS: u32 = 8_192;

/// Objects of TLS libraries whose plaintext is recorded, of all processes. An entry has 350 bytes. If the one that was used
/// least lately is forgotten, its plaintext is a new stream.
pub const TLS_OBJECTS: u32 = 16_384;

/// Records that TLS libraries wrote to memory and that were not sent yet, of all processes. Most are sent within
/// milliseconds.
pub const TLS_TAGS: u32 = 8_192;

/// Goroutines in a call of Go's crypto/tls, of all processes. An entry has 120 bytes. One is used for each goroutine that has ever
/// made such a call, until others take its place: if that is in a call, what the call moves is not recorded.
pub const TLS_GOROUTINES: u32 = 16_384;

/// Bytes captured of a TLS handshake: its first messages are not encrypted, and name the server and the version.
pub const HANDSHAKE_CAPTURE: u32 = 1 << 10;

/// Runs of a connection in which TLS may begin: behind a request for it in clear text.
pub const TLS_BEGINS_WITHIN: u32 = 4;

/// Streams of HTTP/2 of all programs of Go and Node: requests whose handlers have not begun, and calls that are about to be sent.
pub const STREAMS: u32 = 16_384;

/// Event loops of Node whose async ids are read. The intervals of one take 64 KiB of kernel memory, which is preallocated.
pub const EVENT_LOOPS: u32 = 32;

/// MPTCP connections that are established and have not been used yet, of all processes.
pub const MPTCP_HANDSHAKES: u32 = 4_096;

/// Connections whose capture is limited, because their messages are long.
pub const LIMITED: u32 = 65_536;

/// Connections on which the agent recognised HTTP/2 after their start.
pub const FRAMES: u32 = 16_384;

/// Processes whose header blocks are longer than the default budget.
pub const RAISED_PROCESSES: u32 = 1_024;

/// Default size of the ring buffer. At 300,000 operations a second of 300 bytes it holds 90 ms: seven times as much as waits
/// there when the agent is woken.
pub const RING_BYTES: u32 = 8 << 20;

/// Bytes captured of a run while more may wait: 10,000 pipelined requests of 400 bytes. It is half of the default ring.
pub const RUN_CAPTURE: u32 = 4 << 20;

/// Bytes captured of a run on the request side, if its messages are long: more than the header block of most requests, and
/// most SQL statements.
pub const REQUEST_CAPTURE: u32 = 8 << 10;

/// Bytes captured of a run on the response side, if its messages are long: a header block.
pub const RESPONSE_CAPTURE: u32 = 1 << 10;

/// The same, after a response's header block was longer. Cookies and security policies make them long.
pub const RAISED_RESPONSE_CAPTURE: u32 = 8 << 10;

/// Bytes captured of every operation's beginning, even after its run's budget is spent. Pipelined responses each begin
/// with an operation, and the size of a chunk is usually there.
pub const OPERATION_CAPTURE: u32 = 256;

/// The most bytes of a run that are captured if its messages are long. It also bounds a header block.
pub const LARGEST_CAPTURE: u32 = 64 << 10;

/// The most bytes in one record. A longer operation is recorded in several. It is a power of two, and the largest size
/// class: a record takes all of its class in the ring.
pub const RECORD_CAPTURE: u32 = 8 << 10;

/// A shorter send does not wait for buffer space: the smallest send buffer holds more (`tcp_wmem`, 16 KiB by default).
pub const WAITING_SEND: u64 = 16 << 10;

/// Client connections whose first request may be changed, at a time. Each leaves as soon as its request has gone.
pub const ENROLLED: u32 = 65_536;

/// The longest header block to which a line is added.
pub const INJECTED_HEAD: u32 = 64 << 10;

/// Requests that were sent on this host and not received yet, or whose calls are not made yet, as far as their trace is known. The
/// one that was used least lately is forgotten; what is called for it then begins a trace of its own.
pub const TRACES: u32 = 16_384;

/// Requests whose `tracestate` is remembered for the calls that are made for them. The one that was used least lately is forgotten.
pub const STATES: u32 = 4096;

/// Buffers of one vectored operation: `UIO_MAXIOV` of include/uapi/linux/uio.h. The kernel accepts no more.
pub const BUFFERS: u32 = 1024;
