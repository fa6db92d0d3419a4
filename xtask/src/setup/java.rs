//! What the library for JVMs is built with: ASM, from Maven Central, in the cache. The JDK is the machine's.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_java_build::{ASM_PARTS, ASM_VERSION, asm, jdk_program};
use onlooker_tests::machine::find_program;

use super::{Part, made};
use crate::shell;

pub(crate) const JAVA: Part = Part {
    name: "java",
    about: "The bytecode library ASM, with which TLS of JVMs is read",
    by_default: true,
    make_ready,
};

/// The plugin that downloads an artifact without a project.
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";

fn make_ready(cache: &Cache) -> Result<()> {
    let (Some(maven), Some(_)) = (find_program("mvn"), jdk_program("javac")) else {
        // The agent is built without `--java`, and the tests that need it are skipped.
        shell::say("java: no JDK with Maven is installed");
        return Ok(());
    };
    let dir = asm(cache);
    let made = made::once(&dir, ASM_VERSION, || {
        shell::say(&format!("java: downloading ASM {ASM_VERSION} into {}", dir.display()));
        ASM_PARTS.iter().try_for_each(|part| {
            let mut download = Command::new(&maven);
            download.args(["--quiet", "--batch-mode", PLUGIN]);
            download.arg(format!("-Dartifact=org.ow2.asm:{part}:{ASM_VERSION}"));
            shell::run(download.arg(format!("-DoutputDirectory={}", dir.display())))
        })
    })?;
    if !made {
        shell::say(&format!("java: ASM {ASM_VERSION} (already there)"));
    }
    Ok(())
}
