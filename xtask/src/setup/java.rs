//! Java libraries, from Maven Central, in the cache: ASM, which the library for JVMs contains, and Tomcat and grpc-java, which are
//! traced in tests. The JDK is the machine's.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_java_build::{ASM_PARTS, ASM_VERSION, asm, jdk_program};
use onlooker_tests::machine::{find_program, java_libraries};

use super::{Part, made};
use crate::shell;

pub(crate) const JAVA: Part = Part {
    name: "java",
    about: "ASM, with which TLS of JVMs is read, and Tomcat and grpc-java for tests",
    by_default: true,
    make_ready,
};

/// The plugin that downloads an artifact without a project.
pub(super) const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";

/// What traced applications use.
const LIBRARIES: [&str; 11] = [
    // The last version that runs on Java 8 and has the packages of Java EE.
    "org.apache.tomcat.embed:tomcat-embed-core:9.0.98",
    "org.apache.tomcat:tomcat-annotations-api:9.0.98",
    // With Netty inside.
    "io.grpc:grpc-netty-shaded:1.68.1",
    "io.grpc:grpc-api:1.68.1",
    "io.grpc:grpc-core:1.68.1",
    "io.grpc:grpc-stub:1.68.1",
    "io.grpc:grpc-util:1.68.1",
    // What grpc-java uses.
    "io.perfmark:perfmark-api:0.27.0",
    "com.google.code.gson:gson:2.11.0",
    "com.google.guava:failureaccess:1.0.2",
    "com.google.guava:guava:33.3.1-jre",
];

fn make_ready(cache: &Cache) -> Result<()> {
    let (Some(maven), Some(_)) = (find_program("mvn"), jdk_program("javac")) else {
        // The agent is built without `--java`, and the tests that need it are skipped.
        shell::say("java: no JDK with Maven is installed");
        return Ok(());
    };
    let asm_parts = ASM_PARTS.map(|part| format!("org.ow2.asm:{part}:{ASM_VERSION}"));
    let sets = [
        (asm(cache), ASM_VERSION.to_owned(), asm_parts.to_vec()),
        (java_libraries()?, LIBRARIES.join(" "), LIBRARIES.map(str::to_owned).to_vec()),
    ];
    for (dir, recipe, artifacts) in sets {
        let made = made::once(&dir, &recipe, || {
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
