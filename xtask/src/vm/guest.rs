//! A guest: a kernel in QEMU under software emulation, with the host's file system below a layer in memory.
//!
//! What the guest writes is gone when it ends. It has no network but its own loopback. QEMU and the server of the file
//! system are killed when this process ends, however it ends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::wait::{self, within};
use tempfile::TempDir;

use super::kernels::Unpacked;
use crate::setup::vm::{QEMU, busybox, virtiofsd};
use crate::shell;

/// The modules between the kernel and its root, in the order of their dependencies. A kernel may have any of them built in.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "fuse",
    "virtiofs",
    "overlay",
];

const INIT: &str = include_str!("init");

/// Enough for the demo's servers with their files in memory.
const MEMORY_MIB: u32 = 3072;

/// What CI has.
const PROCESSORS: u32 = 2;

/// virtiofsd makes its socket at once.
const SERVER_STARTS_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at the deadline and at signals.
const PAUSE: Duration = Duration::from_millis(100);

/// How much of the kernel's log is shown when a guest dies.
const CONSOLE_LINES_SHOWN: usize = 30;

/// Boots `kernel`, runs the shell script `command` as root, and returns the script's exit code. Each line that the
/// script prints goes to `line` at once.
///
/// Fails when the guest does not power off by itself within `patience`.
pub(super) fn run(kernel: &Unpacked, command: &str, patience: Duration, line: &mut dyn FnMut(&str)) -> Result<i32> {
    let dir = tempfile::tempdir().context("cannot create a temporary folder")?;
    make_initrd(&dir, kernel, command)?;
    let _server = serve_root(dir.path())?;
    let mut qemu = start_qemu(dir.path(), kernel)?;
    let output = qemu.0.stdout.take().context("its stdout is a pipe")?;
    let ended = follow(output, patience, line);
    let status = qemu.0.try_wait().context("cannot look at QEMU")?;
    ended.and_then(|()| exit_code(dir.path())).with_context(|| {
        let log = fs::read(dir.path().join("console")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(CONSOLE_LINES_SHOWN)..].join("\n");
        format!("the guest did not come to its end (QEMU: {status:?}); its kernel's log ends with\n{end}")
    })
}

/// A child that is killed when this is dropped, and by the kernel when this process is.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        // Ctrl-C at the terminal is for us, who then stop it.
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: prctl is async-signal-safe, and this option takes a signal's number.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().map(Self).with_context(|| format!("cannot start {program}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes the first root file system: busybox, the modules, `init` and the command.
fn make_initrd(dir: &TempDir, kernel: &Unpacked, command: &str) -> Result<()> {
    let busybox = busybox(&Cache::locate()?);
    let root = dir.path().join("initrd.d");
    for name in ["bin", "modules", "dev", "host", "layer", "root"] {
        let folder = root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    copy(&busybox, &root.join("bin/busybox"))?;
    let mut order = String::new();
    for name in MODULES {
        if add_module(&busybox, kernel, name, &root.join("modules"))? {
            order.push_str(name);
            order.push('\n');
        }
    }
    write(&root.join("modules/order"), &order)?;
    write(&root.join("command"), command)?;
    write(&root.join("init"), INIT)?;
    shell::run(Command::new("chmod").arg("755").arg(root.join("init")))?;

    let image = File::create(dir.path().join("initrd")).context("cannot create the guest's initrd")?;
    let mut archive = Command::new("sh");
    archive.args(["-c", "find . | \"$0\" cpio -o -H newc 2>/dev/null"]).arg(&busybox).current_dir(&root).stdout(image);
    shell::run(&mut archive)
}

/// Adds the module if `kernel` has it as one; a kernel that has it built in has no such file.
fn add_module(busybox: &Path, kernel: &Unpacked, name: &str, to: &Path) -> Result<bool> {
    let find = ["-name".to_owned(), format!("{name}.ko"), "-o".to_owned(), "-name".to_owned(), format!("{name}.ko.xz")];
    let found = shell::read(Command::new("find").arg(&kernel.modules).args(find))?;
    let Some(file) = found.lines().next() else { return Ok(false) };
    let target = to.join(name).with_extension("ko");
    if file.ends_with(".xz") {
        let target = File::create(&target).with_context(|| format!("cannot create {}", target.display()))?;
        shell::run(Command::new(busybox).args(["xz", "-dc", file]).stdout(target))?;
    } else {
        copy(Path::new(file), &target)?;
    }
    Ok(true)
}

/// Starts the server of the host's root. The guest mounts it read-only.
fn serve_root(dir: &Path) -> Result<Running> {
    let program = virtiofsd().context("virtiofsd is not installed: run `cargo xtask setup vm`")?;
    let socket = dir.join("root.sock");
    let log = File::create(dir.join("virtiofsd.log")).context("cannot create virtiofsd's log")?;
    let mut command = Command::new(program);
    command.arg("-f").arg(format!("--socket-path={}", socket.display()));
    for option in ["source=/", "cache=always", "sandbox=chroot", "log_level=err"] {
        command.args(["-o", option]);
    }
    let server = Running::start(command.stdout(log.try_clone()?).stderr(log))?;
    wait::until(within(SERVER_STARTS_WITHIN), "socket of virtiofsd", || Ok(socket.exists().then_some(())))?;
    Ok(server)
}

fn start_qemu(dir: &Path, kernel: &Unpacked) -> Result<Running> {
    let mut command = Command::new(QEMU);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35,memory-backend=memory", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", &PROCESSORS.to_string(), "-m", &MEMORY_MIB.to_string()])
        // virtiofsd maps the guest's memory.
        .args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on")])
        .args(["-chardev", &format!("socket,id=root,path={}", dir.join("root.sock").display())])
        .args(["-device", "vhost-user-fs-pci,chardev=root,tag=host,queue-size=1024"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(dir.join("initrd"))
        .args(["-append", "console=ttyS0 panic=-1 loglevel=4"])
        // In this order ttyS0, ttyS1 and ttyS2.
        .args(["-serial", &format!("file:{}", dir.join("console").display())])
        .args(["-chardev", "stdio,id=output,signal=off", "-serial", "chardev:output"])
        .args(["-serial", &format!("file:{}", dir.join("exit-code").display())])
        .stdout(Stdio::piped());
    Running::start(&mut command)
}

/// Passes every line of `output` to `line` until it ends. Fails after `patience`, and when a signal asks this process to end.
pub(super) fn follow(output: impl Read + Send + 'static, patience: Duration, line: &mut dyn FnMut(&str)) -> Result<()> {
    let start = Instant::now();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for bytes in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(PAUSE) {
            Ok(text) => line(text.trim_end_matches('\r')),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if wait::interrupted() {
            bail!("interrupted");
        }
        if start.elapsed() > patience {
            bail!("it takes longer than {} s", patience.as_secs());
        }
    }
}

fn exit_code(dir: &Path) -> Result<i32> {
    let written = shell::file(&dir.join("exit-code"))?;
    written.trim().parse().context("the guest's command has no exit code")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
