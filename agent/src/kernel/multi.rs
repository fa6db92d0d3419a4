//! Attaches a program to many functions of a file with one link (`uprobe_multi`, since Linux 6.6).
//!
//! The kernel attaches to all functions of a link at once, and detaches from them at once. Without such links, each function
//! is a perf event, and the kernel waits for all processors for one after the other. Current kernels also ask for
//! CAP_SYS_ADMIN to make such events, and for CAP_BPF and CAP_PERFMON to make links.
//!
//! A program must be loaded for such links, which aya cannot do. So this module loads those programs from the same object,
//! with the maps that aya has created.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::generated::bpf_insn;
use aya_obj::{Object, ProgramSection};

use super::object::OBJECT;

/// include/uapi/linux/bpf.h: `enum bpf_cmd`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_LINK_CREATE: libc::c_int = 28;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_KPROBE: u32 = 2;
/// `enum bpf_attach_type`.
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
/// The functions are observed when they return.
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

/// Size of a record that tells the type of a function.
const FUNC_INFO_BYTES: u32 = 8;

/// The part of `union bpf_attr` that `BPF_BTF_LOAD` reads.
#[repr(C)]
#[derive(Default)]
struct BtfAttributes {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
#[derive(Default)]
struct ProgramAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    btf: u32,
    func_info_bytes: u32,
    func_info: u64,
    func_info_count: u32,
    line_info_bytes: u32,
    line_info: u64,
    line_info_count: u32,
    attach_btf_id: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for these links.
#[repr(C)]
#[derive(Default)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    padding: u32,
}

/// Runs a command that returns a descriptor.
///
/// # Safety
/// `T` must be the part of `union bpf_attr` that the command reads, with pointers that are valid for the lengths that it has.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes have the given size. The caller guarantees the rest.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    match i32::try_from(result) {
        // SAFETY: the descriptor is new, and nothing else owns it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A program that can be attached with such links.
#[derive(Debug)]
pub(super) struct MultiProgram {
    descriptor: OwnedFd,
    at_return: bool,
}

impl MultiProgram {
    /// Attaches to functions of a file, each by its offset and with a cookie, as far as the process `pid` executes them.
    pub(super) fn attach(&self, path: &Path, functions: &[(u64, u64)], pid: u32) -> io::Result<OwnedFd> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (offsets, cookies): (Vec<_>, Vec<_>) = functions.iter().copied().unzip();
        let attributes = LinkAttributes {
            program: self.descriptor.as_raw_fd().unsigned_abs(),
            attach_type: BPF_TRACE_UPROBE_MULTI,
            path: path.as_ptr().addr() as u64,
            offsets: offsets.as_ptr().addr() as u64,
            cookies: cookies.as_ptr().addr() as u64,
            count: u32::try_from(offsets.len()).map_err(io::Error::other)?,
            multi_flags: if self.at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
            pid,
            ..LinkAttributes::default()
        };
        // SAFETY: the attributes belong to the command. The path ends with a zero byte, and there are `count` offsets and cookies.
        unsafe { bpf(BPF_LINK_CREATE, &attributes) }
    }

    /// Whether the kernel has such links and filters them by process.
    ///
    /// Linux 6.6 to 6.9 filter by thread, unless they have the fix ("fix multi-uprobe PID filtering logic"). The fix also made the kernel refuse the
    /// process -1 before it looks at the file.
    fn is_supported(&self) -> Result<(), String> {
        let no_file = Path::new("/");
        let refused = |pid| self.attach(no_file, &[(0, 0)], pid).err().and_then(|error| error.raw_os_error());
        match refused(0) {
            Some(libc::EBADF) => {}
            other => return Err(format!("the kernel has no such links: {}", name(other))),
        }
        match refused(u32::MAX) {
            Some(libc::EINVAL) => Ok(()),
            other => Err(format!("the kernel filters such links by thread: {}", name(other))),
        }
    }
}

fn name(errno: Option<i32>) -> String {
    errno.map_or_else(|| "accepted".to_owned(), |errno| io::Error::from_raw_os_error(errno).to_string())
}

/// What is loaded into the kernel for a program.
struct Code {
    instructions: Vec<bpf_insn>,
    func_info: Vec<u8>,
    license: CString,
    at_return: bool,
}

/// The programs, ready to be loaded.
struct Relocated {
    /// The instructions have the numbers of these descriptors.
    _maps: HashMap<String, OwnedFd>,
    btf: Option<OwnedFd>,
    programs: HashMap<String, Code>,
}

impl Relocated {
    fn new(maps: HashMap<String, OwnedFd>) -> Result<Self, String> {
        let failed = |error: &dyn std::error::Error| super::error::why(error);
        let mut object = Object::parse(OBJECT).map_err(|error| failed(&error))?;
        let features = aya::features();
        let types = match features.btf() {
            Some(features) => object.fixup_and_sanitize_btf(features).map_err(|error| failed(&error))?,
            None => None,
        };
        let btf = types.map(|types| load_btf(&types.to_bytes())).transpose().map_err(|error| failed(&error))?;
        let described = std::mem::take(&mut object.maps);
        let created =
            described.iter().filter_map(|(name, map)| Some((name.as_str(), maps.get(name)?.as_raw_fd(), map)));
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(created, &sections).map_err(|error| failed(&error))?;
        object.relocate_calls(&sections).map_err(|error| failed(&error))?;
        object.sanitize_functions(features);
        let code = |(name, program): (&String, &aya_obj::Program)| {
            let at_return = match program.section {
                ProgramSection::UProbe { .. } => false,
                ProgramSection::URetProbe { .. } => true,
                _ => return None,
            };
            let function = object.functions.get(&program.function_key())?;
            // The kernel needs it for functions that are verified by themselves.
            let has_info = btf.is_some() && function.func_info_rec_size == FUNC_INFO_BYTES as usize;
            let func_info = if has_info { function.func_info.func_info_bytes() } else { Vec::new() };
            let (instructions, license) = (function.instructions.clone(), program.license.clone());
            Some((name.clone(), Code { instructions, func_info, license, at_return }))
        };
        let programs = object.programs.iter().filter_map(code).collect();
        Ok(Self { _maps: maps, btf, programs })
    }

    fn load(&self, name: &str) -> Result<Arc<MultiProgram>, String> {
        let code = self.programs.get(name).ok_or_else(|| format!("the object has no program {name}"))?;
        let mut attributes = ProgramAttributes {
            kind: BPF_PROG_TYPE_KPROBE,
            instruction_count: u32::try_from(code.instructions.len()).unwrap_or(u32::MAX),
            instructions: code.instructions.as_ptr().addr() as u64,
            license: code.license.as_ptr().addr() as u64,
            expected_attach_type: BPF_TRACE_UPROBE_MULTI,
            ..ProgramAttributes::default()
        };
        // The last byte stays zero.
        let shown = name.len().min(attributes.name.len() - 1);
        attributes.name[..shown].copy_from_slice(&name.as_bytes()[..shown]);
        if let Some(btf) = &self.btf {
            attributes.btf = btf.as_raw_fd().unsigned_abs();
            attributes.func_info_bytes = FUNC_INFO_BYTES;
            attributes.func_info = code.func_info.as_ptr().addr() as u64;
            attributes.func_info_count = u32::try_from(code.func_info.len()).unwrap_or(0) / FUNC_INFO_BYTES;
        }
        // SAFETY: the attributes belong to the command, and the counts are those of the slices. The license ends with a zero byte.
        let descriptor = unsafe { bpf(BPF_PROG_LOAD, &attributes) };
        let descriptor = descriptor.map_err(|error| format!("cannot load {name} for such links: {error}"))?;
        let program = MultiProgram { descriptor, at_return: code.at_return };
        program.is_supported()?;
        Ok(Arc::new(program))
    }
}

fn load_btf(types: &[u8]) -> io::Result<OwnedFd> {
    let size = u32::try_from(types.len()).map_err(io::Error::other)?;
    let attributes = BtfAttributes { btf: types.as_ptr().addr() as u64, size, ..BtfAttributes::default() };
    // SAFETY: the attributes belong to the command, and the types have the given size.
    unsafe { bpf(BPF_BTF_LOAD, &attributes) }
}

/// The programs that are attached to functions. They are loaded when they are needed.
#[derive(Debug)]
pub(super) struct MultiPrograms {
    state: Mutex<State>,
}

enum State {
    /// The maps of the programs, by name.
    Untried(HashMap<String, OwnedFd>),
    Works {
        relocated: Arc<Relocated>,
        loaded: HashMap<&'static str, Arc<Loaded>>,
    },
    /// The kernel refused them.
    Refused(String),
}

/// A program, or why the kernel refused it. Several are loaded at a time, each once.
type Loaded = OnceLock<Result<Arc<MultiProgram>, String>>;

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Untried(_) => "Untried",
            Self::Works { .. } => "Works",
            Self::Refused(_) => "Refused",
        })
    }
}

impl MultiPrograms {
    /// To be called while all maps are in the object.
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        let maps = ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), descriptor(map)?))).collect();
        Self { state: Mutex::new(State::Untried(maps)) }
    }

    /// A program, which is loaded if it is not yet.
    ///
    /// # Errors
    /// If the kernel refused such links, now or before.
    pub(super) fn program(&self, name: &'static str) -> Result<Arc<MultiProgram>, String> {
        let found = self.lock().relocated(name);
        let found = found.and_then(|(relocated, loaded)| loaded.get_or_init(|| relocated.load(name)).clone());
        if let Err(why) = &found {
            self.lock().refuse(why);
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The programs, and the place of one of them.
    fn relocated(&mut self, name: &'static str) -> Result<(Arc<Relocated>, Arc<Loaded>), String> {
        if let Self::Untried(maps) = self {
            let relocated = Arc::new(Relocated::new(std::mem::take(maps))?);
            *self = Self::Works { relocated, loaded: HashMap::new() };
        }
        match self {
            Self::Works { relocated, loaded } => {
                Ok((Arc::clone(relocated), Arc::clone(loaded.entry(name).or_default())))
            }
            Self::Refused(why) => Err(why.clone()),
            Self::Untried(_) => Err("the programs are not relocated".to_owned()),
        }
    }

    fn refuse(&mut self, why: &str) {
        if !matches!(self, Self::Refused(_)) {
            tracing::debug!(why, "functions are attached to one by one");
            *self = Self::Refused(why.to_owned());
        }
    }
}

/// The object's maps are of these kinds. aya does not know all of them.
fn descriptor(map: &Map) -> Option<OwnedFd> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data)
        | Map::SockHash(data)
        | Map::Unsupported(data) => data.fd().as_fd().try_clone_to_owned().ok(),
        _ => None,
    }
}
