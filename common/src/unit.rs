//! Units of work: what executes one request's work (a thread, a goroutine, a task).
//!
//! The constants are the values of `unit_kind`. The two words of `unit` name the unit within its process.

/// The unit is unknown. Both words are 0.
pub const NONE: u32 = 0;
/// The thread. The first word is its thread id; the second is 0.
pub const THREAD: u32 = 1;
/// A goroutine of Go. The first word is its id, which is never reused. The second is the id of the goroutine that started it,
/// or 0 if that is unknown.
pub const GOROUTINE: u32 = 2;
/// A virtual thread of a JVM. The first word is its `Thread.threadId()`, which is never reused; the second is 0.
pub const VIRTUAL_THREAD: u32 = 3;
/// A context of Python (PEP 567). The first word is its address, which another context may have later; the second is 0.
pub const PYTHON_CONTEXT: u32 = 4;
/// An asynchronous operation of Node. The first word is its execution async id, the second its trigger async id.
pub const ASYNC_ID: u32 = 5;
/// A task of tokio. The first word is its id; the second is 0.
pub const TOKIO_TASK: u32 = 6;

/// Words that say where a process has its unit of work.
pub const SOURCE_WORDS: usize = 6;

/// How the kernel programs read the unit of work of a process: value of the `UNIT_SOURCES` map, keyed by tgid.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitSource {
    /// Which unit it is: one of the constants of this module. [`NONE`]: none is read.
    pub kind: u32,
    /// In the kernel's copy: the value of `UNIT_GENERATION` when it was copied.
    pub generation: u32,
    /// Addresses and offsets. What each one is depends on the kind; the program that reads the unit says it.
    pub words: [u64; SOURCE_WORDS],
}

const _: () = assert!(size_of::<UnitSource>() == 56);

/// A unit of work of a process: key of the `UNITS` map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UnitKey {
    pub tgid: u32,
    pub kind: u32,
    /// The first word of the unit.
    pub id: u64,
}

const _: () = assert!(size_of::<UnitKey>() == 16);

/// The words of [`UnitSource`] for contexts of Python.
pub mod python {
    /// Where a thread has its block of values of `pthread_getspecific`: the distance from the thread pointer to a pointer to
    /// the block. 0 if the block is behind the thread pointer itself.
    pub const BLOCK: usize = 0;
    /// The distance from the block, or from the thread pointer, to the pointer to the thread's `PyThreadState`.
    pub const SLOT: usize = 1;
    /// The offset of `context` in `PyThreadState`.
    pub const CONTEXT: usize = 2;
}
