//! The execution of a program.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use core::ffi::c_void;

use onlooker_common::selection::{PROGRAM_NAME_BYTES, ProgramName};

use super::member::load;
use crate::globals::offset;

/// A `struct linux_binprm`.
#[derive(Clone, Copy)]
pub struct Execution(*const c_void);

impl Execution {
    /// # Safety
    /// `bprm` must be a `struct linux_binprm *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(bprm: *const c_void) -> Self {
        Self(bprm)
    }

    /// The name of the executable's file: of a script, the interpreter's. The process's own name is that of the script or
    /// link that was executed.
    #[inline(always)]
    pub fn file_name(self) -> Option<ProgramName> {
        let mut name = [0; PROGRAM_NAME_BYTES];
        // SAFETY: pointers to struct file and struct dentry, and to the dentry's name. The helper writes no more than the
        // size of `name`, and ends it with a NUL.
        let length = unsafe {
            let file = load::<*const c_void>(self.0, offset!(bprm_file))?;
            let dentry = load::<*const c_void>(file, offset!(file_dentry))?;
            let at = load::<*const c_void>(dentry, offset!(dentry_name))?;
            bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), PROGRAM_NAME_BYTES as u32, at)
        };
        if length > 0 { Some(name) } else { None }
    }
}
