#![no_std]
#![no_main]

#[aya_ebpf::macros::btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(_ctx: aya_ebpf::programs::BtfTracePointContext) -> i32 {
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
