//! Compiles the kernel programs and the library for JVMs where they are stale, and tells the crate where they are.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result};
use object::build::elf;
use object::elf::SHT_STRTAB;
use onlooker_java_build::Built;

fn main() -> ExitCode {
    match embed().and_then(|()| embed_java()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows this as the reason, in place of everything the script has printed.
            instruct("error", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<()> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().context("the agent crate is a folder of the workspace")?;
    let object = onlooker_ebpf_build::build(workspace)?;
    // A copy of its own: what is embedded does not change under a compiler that is just reading it.
    let embedded = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?).join("onlooker-ebpf");
    let whole = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let stripped = without_debug_information(&whole)
        .with_context(|| format!("cannot strip the debug information from {}", object.display()))?;
    fs::write(&embedded, stripped).with_context(|| format!("cannot write {}", embedded.display()))?;
    instruct("rustc-env", &format!("ONLOOKER_EBPF_OBJECT={}", embedded.display()));
    for source in onlooker_ebpf_build::sources(workspace) {
        instruct("rerun-if-changed", &source.display().to_string());
    }
    Ok(())
}

/// The linker makes BTF out of the debug information, which is most of the object. The kernel and the agent read only BTF. The lines of
/// the source are there too, and would only be shown with what the verifier refuses.
fn without_debug_information(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = elf::Builder::read(object)?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        // BTF is relative to its sections already.
        section.delete = name.starts_with(b".debug") || name.starts_with(b".rel.debug") || name == b".rel.BTF.ext";
        if name == b".BTF.ext"
            && let elf::SectionData::Data(data) = &section.data
        {
            section.data = elf::SectionData::Data(without_lines(data)?.into());
        }
    }
    elf.delete_orphans();
    // The names of sections are among those of symbols, which the writer does not do.
    let names = elf.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    Ok(stripped)
}

/// Leaves the lines of the source out of a section `.BTF.ext`: a header with its length, and then offset and length of three parts, counted
/// from its end (include/uapi/linux/btf.h, Documentation/bpf/btf.rst). The second has the lines.
fn without_lines(section: &[u8]) -> Result<Vec<u8>> {
    const LENGTH: usize = 4;
    const PARTS: [usize; 3] = [8, 16, 24];
    const LINES: usize = 16;
    let number = |at: usize| -> Result<usize> {
        let bytes = section.get(at..at + 4).context("the header of .BTF.ext is too short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?).try_into()?)
    };
    let length = number(LENGTH)?;
    let mut kept = section.get(..length).context("the header of .BTF.ext is too short")?.to_vec();
    for part in PARTS.into_iter().filter(|part| part + 8 <= length) {
        let begin = length + number(part)?;
        let bytes = match part {
            LINES => &[],
            _ => section.get(begin..begin + number(part + 4)?).context("a part of .BTF.ext is outside of it")?,
        };
        let place = [u32::try_from(kept.len() - length)?, u32::try_from(bytes.len())?].map(u32::to_le_bytes);
        kept[part..part + 8].copy_from_slice(place.as_flattened());
        kept.extend_from_slice(bytes);
    }
    Ok(kept)
}

/// An empty file where the library cannot be built: the agent has no `--java` then.
fn embed_java() -> Result<()> {
    let variable = |name| env::var_os(name).with_context(|| format!("cargo sets {name}"));
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().context("the agent crate is a folder of the workspace")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?;
    let target = target.to_str().context("the target's name is text")?;
    let linker = env::var_os("RUSTC_LINKER");
    let built = onlooker_java_build::build(workspace, &out, &variable("RUSTC")?, target, linker.as_deref())?;
    let library = match built {
        Built::Library(library) => library,
        Built::Without { missing } => {
            let what = format!("TLS of JVMs cannot be read: {missing} is missing; run `cargo xtask setup`");
            instruct("warning", &what);
            let empty = out.join("no-java-library");
            fs::write(&empty, "").with_context(|| format!("cannot write {}", empty.display()))?;
            empty
        }
    };
    instruct("rustc-env", &format!("ONLOOKER_JAVA_LIBRARY={}", library.display()));
    for source in onlooker_java_build::sources(workspace) {
        instruct("rerun-if-changed", &source.display().to_string());
    }
    let asm = onlooker_java_build::asm(&onlooker_ebpf_build::Cache::locate()?);
    instruct("rerun-if-changed", &asm.display().to_string());
    instruct("rerun-if-env-changed", "JAVA_HOME");
    Ok(())
}

/// Speaks to cargo, which reads a build script's stdout.
fn instruct(key: &str, value: &str) {
    println!("cargo::{key}={value}");
}
