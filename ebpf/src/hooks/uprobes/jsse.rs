//! The function of `java/native` that the JVM calls with plaintext of JSSE.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::tls::jsse;

/// `void observe(JNIEnv *, jclass, jlong id, jlong what, jlong address, jlong length)`
#[uprobe]
pub fn java_observe(ctx: ProbeContext) -> u32 {
    let argument = |n| ctx.arg::<u64>(n).unwrap_or(0);
    jsse::handed_over(argument(2), argument(3), argument(4), argument(5));
    0
}
