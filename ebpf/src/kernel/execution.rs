//! The execution of a program.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use core::ffi::c_void;

use onlooker_common::process::EXECUTED_PATH_BYTES;
use onlooker_common::selection::{Executable, PROGRAM_NAME_BYTES, ProgramName};

use super::member::{at, pointer};
use crate::globals::offset;

/// The path that execve was given, as words.
pub type ExecutedPath = [u64; WORDS];

const WORDS: usize = EXECUTED_PATH_BYTES / size_of::<u64>();

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

    /// The path that execve was given, as far as there is room. The rest is NUL.
    #[inline(always)]
    pub fn path(self) -> Option<ExecutedPath> {
        let mut path = [0; WORDS];
        // SAFETY: a pointer to the path. The helper writes no more than the size of `path`, and ends it with a NUL.
        let length = unsafe {
            let from = pointer(self.0, offset!(bprm_path))?;
            bpf_probe_read_kernel_str(path.as_mut_ptr().cast(), EXECUTED_PATH_BYTES as u32, from as *const c_void)
        };
        if length > 0 { Some(path) } else { None }
    }

    /// The executed file, with the path that it was executed by.
    #[inline(always)]
    pub fn executable(self, path: &ExecutedPath) -> Option<Executable> {
        // FNV-1a, by words.
        let mut path_hash = 0xcbf2_9ce4_8422_2325_u64;
        for word in path {
            path_hash = (path_hash ^ *word).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // Pointers to struct file, struct inode and struct super_block, an unsigned long and a dev_t of theirs.
        let file = pointer(self.0, offset!(bprm_file))?;
        let inode = at::<u64>(file, offset!(file_inode))?;
        let number = at::<u64>(inode, offset!(inode_number))?;
        let filesystem = at::<u64>(inode, offset!(inode_super))?;
        let device = at::<u32>(filesystem, offset!(super_device))?;
        Some(Executable { inode: number, device: u64::from(device), path_hash })
    }

    /// The name of the executable's file: of a script, the interpreter's. The process's own name is that of the script or
    /// link that was executed.
    #[inline(always)]
    pub fn file_name(self) -> Option<ProgramName> {
        let mut name = [0; PROGRAM_NAME_BYTES];
        // SAFETY: pointers to struct file and struct dentry, and to the dentry's name. The helper writes no more than the
        // size of `name`, and ends it with a NUL.
        let length = unsafe {
            let file = pointer(self.0, offset!(bprm_file))?;
            let dentry = at::<u64>(file, offset!(file_dentry))?;
            let from = at::<u64>(dentry, offset!(dentry_name))?;
            bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), PROGRAM_NAME_BYTES as u32, from as *const c_void)
        };
        if length > 0 { Some(name) } else { None }
    }
}
