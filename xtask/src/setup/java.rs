//! Java libraries, from Maven Central, in the cache: ASM, which the library for JVMs contains, and Tomcat, which is traced in
//! tests. The JDK is the machine's.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_java_build::{ASM_PARTS, ASM_VERSION, asm, jdk_program};
use onlooker_tests::machine::{find_program, java_libraries};

use super::{Part, made};
use crate::shell;

pub(crate) const JAVA: Part = Part {
    name: "java",
    about: "ASM, with which TLS of JVMs is read, and Tomcat for the tests of it",
    by_default: true,
    make_ready,
};

/// The plugin that downloads an artifact without a project.
pub(super) const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";

/// The last version that runs on Java 8 and has the packages of Java EE.
const TOMCAT_VERSION: &str = "9.0.98";
const TOMCAT: [&str; 2] = ["org.apache.tomcat.embed:tomcat-embed-core", "org.apache.tomcat:tomcat-annotations-api"];

fn make_ready(cache: &Cache) -> Result<()> {
    let (Some(maven), Some(_)) = (find_program("mvn"), jdk_program("javac")) else {
        // The agent is built without `--java`, and the tests that need it are skipped.
        shell::say("java: no JDK with Maven is installed");
        return Ok(());
    };
    let asm_parts = ASM_PARTS.map(|part| format!("org.ow2.asm:{part}:{ASM_VERSION}"));
    let sets = [
        (asm(cache), ASM_VERSION, asm_parts.to_vec()),
        (java_libraries()?, TOMCAT_VERSION, TOMCAT.map(|part| format!("{part}:{TOMCAT_VERSION}")).to_vec()),
    ];
    for (dir, version, artifacts) in sets {
        let made = made::once(&dir, version, || {
            shell::say(&format!("java: downloading {} into {}", artifacts.join(", "), dir.display()));
            artifacts.iter().try_for_each(|artifact| {
                let mut download = Command::new(&maven);
                download.args(["--quiet", "--batch-mode", PLUGIN]).arg(format!("-Dartifact={artifact}"));
                shell::run(download.arg(format!("-DoutputDirectory={}", dir.display())))
            })
        })?;
        if !made {
            shell::say(&format!("java: {} (already there)", artifacts.join(", ")));
        }
    }
    Ok(())
}
