//! The kernel programs: a recorder and a switchboard.
//!
//! `tracepoints` are the entry points. What a socket operation moved becomes an Event in `segment`; what becomes of a
//! connection, in `connection`; which processes are followed, in `process`; whose work is done, in `context`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arguments;
mod atomic;
mod capture;
mod connection;
mod context;
mod emit;
mod kernel;
mod maps;
mod process;
mod segment;
mod tracepoints;
mod user;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}
