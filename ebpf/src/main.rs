//! The kernel programs. They record what selected processes do on their sockets.
//!
//! - `hooks`: entry points, one line each.
//! - `record`: turns a socket operation into a record.
//! - `connection`: turns changes of a connection into records.
//! - `process`: selects processes and turns their changes into records.
//! - `tls`: finds the plaintext of encrypted connections in TLS libraries.
//! - `inject`: adds `traceparent` to requests.
//! - `work`: finds the owner of a message.
//! - `state`: what is remembered of sockets and threads. `maps` are the tables that hold it.
//! - `kernel` and `user`: the only readers of kernel memory and user memory. `emit` is the only writer to the ring.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arch;
mod atomic;
mod connection;
mod emit;
mod globals;
mod hooks;
mod inject;
mod kernel;
mod maps;
mod process;
mod record;
mod selected;
mod state;
mod tls;
mod user;
mod verifier;
mod work;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier rejects a program that can reach this.
    loop {}
}
