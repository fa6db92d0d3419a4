//! Every capacity of the kernel side, named and justified.

/// Selected processes at once. One entry is 24 bytes; preallocated because tracing programs may not allocate.
pub const PROCESSES: u32 = 16_384;

/// Places in the census of selected processes, a power of two: with a thousand of them, 6 % of the others are looked for in
/// vain.
pub const CENSUS: u32 = 16_384;

/// Cgroups that are selected.
pub const CGROUPS: u32 = 256;

/// Depth to which a process's cgroup is looked for a selected one above it; Kubernetes nests five deep.
pub const CGROUP_DEPTH: i32 = 16;

/// Listening sockets that were there before the agent: (network namespace, port).
pub const LISTENERS: u32 = 16_384;

/// Server connections of processes that make calls, whose requests' progress kernel and agent tell each other.
pub const REQUESTS: u32 = 65_536;

/// Connections whose capture policy user space raised.
pub const RAISED: u32 = 16_384;

/// Processes of which it did: of those whose heads are longer than what is captured.
pub const RAISED_PROCESSES: u32 = 1_024;

/// Bytes of the ring from kernel to agent, unless configured. At 300,000 operations a second of 300 bytes it holds
/// 90 ms, nine times the interval at which the agent looks.
pub const RING_BYTES: u32 = 8 << 20;

/// Bytes kept of a run on the request side: more than the header block of most requests, and most SQL statements.
pub const REQUEST_CAPTURE: u32 = 8 << 10;

/// Bytes kept of a run on the response side: its header block.
pub const RESPONSE_CAPTURE: u32 = 1 << 10;

/// The same where a response's header block was longer: cookies, and policies of what a page may do.
pub const RAISED_RESPONSE_CAPTURE: u32 = 8 << 10;

/// Bytes kept of every operation's beginning even when its run's budget is spent: pipelined responses each begin with
/// one, and a chunk's size usually stands there.
pub const OPERATION_CAPTURE: u32 = 256;

/// The largest capture that one operation can carry: the largest size class, for connections whose policy was raised.
/// A header block may have as much.
pub const LARGEST_CAPTURE: u32 = 64 << 10;

/// A send of fewer bytes does not wait for room: the smallest send buffer holds more (`tcp_wmem`, 16 KiB by default).
pub const WAITING_SEND: u64 = 16 << 10;

/// Buffers of one vectored operation that are looked at: IOV_MAX is 1024, and servers use a few.
pub const BUFFERS: u32 = 64;
