//! Reads the memory of a process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use zerocopy::{FromBytes, IntoBytes};

use crate::discover::process::Process;

/// The memory of a process. Stays with the process when its pid is reused, and with its program: after execve(2) every
/// read fails.
#[derive(Debug)]
pub struct Memory {
    file: File,
}

impl Memory {
    /// # Errors
    /// If the process has ended, or the agent lacks CAP_SYS_PTRACE.
    pub fn open(process: &Process) -> io::Result<Self> {
        let file = process.open_relative("mem").map_err(io::Error::other)?;
        Ok(Self { file })
    }

    /// Reads the value at the address `at`.
    ///
    /// # Errors
    /// If not all of it is readable memory.
    pub fn read<T: FromBytes + IntoBytes>(&self, at: u64) -> io::Result<T> {
        let mut value = T::new_zeroed();
        self.read_into(at, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Fills `into` with the bytes from the address `at`.
    ///
    /// # Errors
    /// If not all of them are readable memory.
    pub fn read_into(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_at_their_address() {
        let memory = Memory::open(&Process::myself().unwrap()).unwrap();
        let values = [7_u64, 8];
        let at = std::ptr::from_ref(&values).addr() as u64;
        assert_eq!(memory.read::<u64>(at + 8).unwrap(), 8);
        assert_eq!(memory.read::<[u64; 2]>(at).unwrap(), values);
    }

    #[test]
    fn an_address_without_memory_is_an_error() {
        let memory = Memory::open(&Process::myself().unwrap()).unwrap();
        for at in [0, 1 << 46, 1 << 63, u64::MAX] {
            memory.read::<u64>(at).unwrap_err();
        }
    }
}
