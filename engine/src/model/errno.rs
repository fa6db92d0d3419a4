//! Linux's error numbers (`include/uapi/asm-generic/errno.h`). Records carry them, whatever this crate runs on.

pub const EPIPE: i32 = 32;
pub const ENETDOWN: i32 = 100;
pub const ENETUNREACH: i32 = 101;
pub const ECONNABORTED: i32 = 103;
pub const ECONNRESET: i32 = 104;
pub const ETIMEDOUT: i32 = 110;
pub const ECONNREFUSED: i32 = 111;
pub const EHOSTUNREACH: i32 = 113;
