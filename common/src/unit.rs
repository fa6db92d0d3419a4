//! Units of work: what executes one request's work (a thread, a goroutine, a task).
//!
//! The constants are the values of `unit_kind`. The two words of `unit` name the unit within its process.

/// The unit is unknown. Both words are 0.
pub const NONE: u32 = 0;
/// The thread. The first word is its thread id; the second is 0.
pub const THREAD: u32 = 1;
/// A goroutine of Go. The first word is its id, which is never reused; the second is 0.
pub const GOROUTINE: u32 = 2;
/// A virtual thread of a JVM. The first word is its `Thread.threadId()`, which is never reused; the second is 0.
pub const VIRTUAL_THREAD: u32 = 3;
/// A context of Python (PEP 567). The first word is its address, which another context may have later; the second is 0.
pub const PYTHON_CONTEXT: u32 = 4;
/// An asynchronous operation of Node. The first word is its execution async id, the second its trigger async id.
pub const ASYNC_ID: u32 = 5;
/// A task of tokio. The first word is its id; the second is 0.
pub const TOKIO_TASK: u32 = 6;
/// Only in keys of the `UNITS` map: the task of tokio that has this id, and the request for whose work it was woken.
pub const WOKEN_TASK: u32 = 7;
/// Only in keys of the `UNITS` map: a call of grpc-go whose HEADERS frame is not written, by the address of the list of its header
/// fields, and the request for which it is made.
pub const GRPC_CALL: u32 = 8;

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

/// The words of a [`UnitSource`] for [`GOROUTINE`].
pub mod go {
    /// Where the pointer to the running `g` is, relative to the thread pointer (modulo 2^64). 0: the register that holds it
    /// in Go's code is read.
    pub const G: usize = 0;
    /// The offset of `goid` in a `g`.
    pub const GOID: usize = 1;
    /// The offset of `parentGoid` in a `g`. 0 where Go has no such member (before 1.21).
    pub const PARENT_GOID: usize = 2;
    /// The offset of `conn` in net/http's `persistConn`, and those of the descriptor, `family` and `sotype` in net's `netFD`. 0 if
    /// they are unknown.
    pub const HTTP_CLIENT: usize = 3;
    /// Where Go's runtime has the slice of its processors (`runtime.allp`), and the offset of `goidcache` in a `p`: see
    /// [`pack_processors`]. 0 if they are unknown.
    pub const PROCESSORS: usize = 4;

    /// An address of user memory and an offset as one word.
    #[must_use]
    pub const fn pack_processors(slice: u64, offset: u16) -> u64 {
        slice | (offset as u64) << 48
    }

    /// The address and the offset of a word.
    #[must_use]
    pub const fn unpack_processors(word: u64) -> (u64, u64) {
        (word & ((1 << 48) - 1), word >> 48)
    }

    /// Four offsets as one word.
    #[must_use]
    pub const fn pack(offsets: [u16; 4]) -> u64 {
        let [a, b, c, d] = offsets;
        a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
    }

    /// The offsets of a word.
    #[must_use]
    pub const fn unpack(word: u64) -> [u64; 4] {
        [word & 0xffff, (word >> 16) & 0xffff, (word >> 32) & 0xffff, word >> 48]
    }
}

/// A socket of a process by its file descriptor: key of the `ANNOUNCED_CALLS` map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Descriptor {
    pub tgid: u32,
    pub descriptor: u32,
}

/// A stream of HTTP/2 that passes from one unit of work to another: key of the `STREAMS` map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StreamKey {
    pub tgid: u32,
    pub number: u32,
    /// In a Go program: of a request that is not handled yet, the goroutine of its connection, or the address of grpc-go's transport;
    /// of a call that is not sent yet, the goroutine that will send it. In Node: the thread that read the request, or the session of
    /// the call.
    pub unit: u64,
}

const _: () = assert!(size_of::<StreamKey>() == 16);

/// The words of a [`UnitSource`] for [`VIRTUAL_THREAD`]. Offsets share a word in pairs.
pub mod jvm {
    /// `JavaThread::_osthread`, and `OSThread::_pthread_id`.
    pub const THREAD: usize = 0;
    /// `JavaThread::_threadObj` and `_vthread`, which point to pointers to `Thread` objects: of the thread itself, and of the
    /// one that it runs.
    pub const OBJECTS: usize = 1;
    /// The id in a `Thread` object, and `JavaThread::_monitor_owner_id`: the id of the thread that it runs, since JDK 24. It
    /// is 0 if there is none.
    pub const IDS: usize = 2;
    /// The address of the mask of bits that mark a pointer to an object that may have moved. 0 if no bits do.
    pub const BAD_COLOURS: usize = 3;
    /// The address of the number of bits below the object's address in a pointer. 0 if there are none.
    pub const SHIFT: usize = 4;

    /// Two offsets as one word.
    #[must_use]
    pub const fn pair(first: u64, second: u64) -> u64 {
        first | second << 32
    }

    /// The offsets of a word.
    #[must_use]
    pub const fn unpair(word: u64) -> [u64; 2] {
        [word & 0xffff_ffff, word >> 32]
    }
}

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

/// The words of a [`UnitSource`] for tasks of tokio.
pub mod tokio {
    /// Where a thread has the id of the task that it runs, relative to the thread pointer (modulo 2^64).
    pub const TASK_ID: usize = 0;
    /// The first address of the executable in memory, and the address behind its last. Its constants are between them.
    pub const IMAGE_START: usize = 1;
    pub const IMAGE_END: usize = 2;
}
