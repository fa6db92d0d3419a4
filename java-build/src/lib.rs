//! Compiles what Onlooker loads into JVMs: the classes of `java/src` and the library of `java/native`, which contains them.
//!
//! `agent`'s build script calls this crate and embeds the library. It needs a JDK, and ASM, which `cargo xtask setup`
//! downloads. Without them the agent is built too, and has no `--java`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;

/// The bytecode library. This version reads classes of Java 26 and older.
pub const ASM_VERSION: &str = "9.9";

/// The parts of ASM that are used, as Maven Central calls them.
pub const ASM_PARTS: [&str; 2] = ["asm", "asm-commons"];

/// The oldest Java that the classes run on.
const RELEASE: &str = "8";

/// What came of it.
#[derive(Debug)]
pub enum Built {
    Library(PathBuf),
    /// Something that is needed is not on this machine.
    Without {
        missing: String,
    },
}

/// The folder of ASM's archives.
#[must_use]
pub fn asm(cache: &Cache) -> PathBuf {
    cache.dir().join("asm")
}

/// The files that the library is made from.
#[must_use]
pub fn sources(workspace: &Path) -> Vec<PathBuf> {
    ["java/src", "java/build", "java/native"].iter().map(|path| workspace.join(path)).collect()
}

/// A program of a JDK: in `JAVA_HOME`, or else on `PATH`.
#[must_use]
pub fn jdk_program(name: &str) -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    home.into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Compiles everything into `out`. `rustc` compiles the library for `target`, and links it with `linker`.
///
/// # Errors
/// If what is needed is there, and compiling fails.
pub fn build(workspace: &Path, out: &Path, rustc: &OsStr, target: &str, linker: Option<&OsStr>) -> Result<Built> {
    let archives: Vec<PathBuf> = {
        let asm = asm(&Cache::locate()?);
        ASM_PARTS.iter().map(|part| asm.join(format!("{part}-{ASM_VERSION}.jar"))).collect()
    };
    if archives.iter().any(|archive| !archive.is_file()) {
        return Ok(Built::Without { missing: format!("ASM {ASM_VERSION}") });
    }
    let library = out.join("libonlooker_java.so");
    if is_newer(&library, sources(workspace).iter().chain(&archives)) {
        return Ok(Built::Library(library));
    }
    let (Some(javac), Some(java)) = (jdk_program("javac"), jdk_program("java")) else {
        return Ok(Built::Without { missing: "a JDK".to_owned() });
    };
    let (classes, tool) = (out.join("java-classes"), out.join("java-tool"));
    for dir in [&classes, &tool] {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let library_path = env::join_paths(&archives).context("the paths of ASM cannot be joined")?;
    let compile = |from: &Path, into: &Path| -> Result<()> {
        let mut compiler = Command::new(&javac);
        compiler.args(["--release", RELEASE, "-Xlint:all,-options,-deprecation", "-Werror", "-g:none", "-cp"]);
        run(compiler.arg(&library_path).arg("-d").arg(into).args(java_files(from)?))
    };
    compile(&workspace.join("java/src"), &classes)?;
    compile(&workspace.join("java/build"), &tool)?;
    let tool_path =
        env::join_paths(archives.iter().chain([&tool])).context("the paths of the classes cannot be joined")?;
    let mut relocate = Command::new(&java);
    run(relocate.arg("-cp").arg(tool_path).arg("Relocate").arg(&classes).arg(classes.join("weaver.jar")))?;

    let mut compiler = Command::new(rustc);
    compiler
        .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "onlooker_java", "--target", target])
        .args(["-Dwarnings", "-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols"])
        .args(["-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles"])
        // The library does not contain the path of the sources.
        .arg(remapped(workspace))
        .env("ONLOOKER_JAVA_CLASSES", &classes);
    if let Some(linker) = linker {
        let mut option = OsStr::new("-Clinker=").to_os_string();
        option.push(linker);
        compiler.arg(option);
    }
    run(compiler.arg("-o").arg(&library).arg(workspace.join("java/native/lib.rs")))?;
    Ok(Built::Library(library))
}

/// The option by which the compiler calls the workspace `/onlooker`.
fn remapped(workspace: &Path) -> OsString {
    let mut option = OsString::from("--remap-path-prefix=");
    option.push(workspace);
    option.push("=/onlooker");
    option
}

/// Whether a file is newer than all files that it is made from.
fn is_newer<'path>(file: &Path, mut made_from: impl Iterator<Item = &'path PathBuf>) -> bool {
    let Some(made) = modified(file) else { return false };
    made_from.all(|path| newest(path).is_some_and(|newest| newest < made))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When a file, or the newest file or folder in a folder, was changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let own = modified(path)?;
    if !path.is_dir() {
        return Some(own);
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    entries.filter_map(|entry| newest(&entry.path())).chain([own]).max()
}

/// All Java files below a folder, in a fixed order.
fn java_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.is_dir() {
            files.extend(java_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "java") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        bail!("{} failed ({}): {out}{err}", program.display(), output.status);
    }
    Ok(())
}
