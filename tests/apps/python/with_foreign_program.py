"""Loads a program of the kind sk_msg, as another agent would, and runs a command meanwhile. Arguments: the command."""

import ctypes
import platform
import struct
import subprocess
import sys

# include/uapi/linux/bpf.h
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_SK_MSG = 16
SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]

# r0 = SK_PASS; exit
instructions = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
code, licence = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b"GPL")
# Type, number of instructions, both texts, no log, any version of the kernel, no flags, and the name.
attributes = struct.pack(
    "<IIQQIIQII16s", BPF_PROG_TYPE_SK_MSG, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0, b"somebody_else"
)
libc = ctypes.CDLL(None, use_errno=True)
program = libc.syscall(SYS_BPF, BPF_PROG_LOAD, ctypes.create_string_buffer(attributes), len(attributes))
if program < 0:
    raise OSError(ctypes.get_errno(), "cannot load a program")
sys.exit(subprocess.run(sys.argv[1:]).returncode)
