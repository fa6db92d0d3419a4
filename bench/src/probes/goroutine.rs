//! What stands for Go's runtime in the measured process: a goroutine that runs on its thread, and net/http's connection.
//!
//! The structs are as long as those of Go 1.26, and have its offsets.

use std::arch::{asm, naked_asm};
use std::cell::Cell;

use onlooker_common::unit::{self, UnitSource, go};

const GOID: u64 = 152;
const PARENT_GOID: u64 = 280;
const CONN: u16 = 80;
const DESCRIPTOR: u16 = 16;
const FAMILY: u16 = 56;
const KIND: u16 = 64;
/// AF_INET and SOCK_STREAM.
const STREAM: [u64; 2] = [2, 1];

thread_local! {
    static RUNNING: Cell<u64> = const { Cell::new(0) };
}

/// A goroutine with a connection. It lives as long as the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goroutine {
    g: u64,
    connection: u64,
}

impl Goroutine {
    /// Makes a goroutine that runs on this thread.
    pub(super) fn run() -> Self {
        let mut g = vec![0_u64; 64];
        g[GOID as usize / 8] = 7;
        g[PARENT_GOID as usize / 8] = 1;
        let mut net_fd = vec![0_u64; 16];
        net_fd[usize::from(DESCRIPTOR) / 8] = 5;
        net_fd[usize::from(FAMILY) / 8..][..2].copy_from_slice(&STREAM);
        let tcp = vec![address(net_fd)];
        let mut connection = vec![0_u64; 32];
        // An interface: a type, and a pointer.
        connection[usize::from(CONN) / 8 + 1] = address(tcp);
        let g = address(g);
        RUNNING.set(g);
        Self { g, connection: address(connection) }
    }

    /// Calls [`round_trip`] as Go does.
    pub(super) fn call(self) {
        // SAFETY: the function only returns. Go passes the first argument in rax, and the goroutine in r14.
        unsafe {
            asm!("call {function}", function = sym round_trip, in("rax") self.connection, in("r14") self.g, clobber_abi("C"));
        }
    }
}

/// How the goroutine of this thread is read.
pub(super) fn source() -> UnitSource {
    let thread_pointer: u64;
    // SAFETY: the first word of a thread's control block on x86-64 is its own address.
    unsafe { asm!("mov {}, fs:[0]", out(reg) thread_pointer) };
    let running = RUNNING.with(|running| std::ptr::from_ref(running).addr() as u64);
    let mut words = [0; unit::SOURCE_WORDS];
    words[go::G] = running.wrapping_sub(thread_pointer);
    words[go::GOID] = GOID;
    words[go::PARENT_GOID] = PARENT_GOID;
    words[go::HTTP_CLIENT] = go::pack([CONN, DESCRIPTOR, FAMILY, KIND]);
    UnitSource { kind: unit::GOROUTINE, words, ..UnitSource::default() }
}

/// Stands for `net/http.(*persistConn).roundTrip`.
#[unsafe(naked)]
pub(super) extern "C" fn round_trip() {
    naked_asm!("nop", "ret")
}

fn address(words: Vec<u64>) -> u64 {
    words.leak().as_ptr().addr() as u64
}
