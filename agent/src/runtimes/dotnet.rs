//! .NET. A service is named after its assembly.

use std::ffi::OsStr;
use std::path::Path;

use compact_str::CompactString;

use super::arguments::option;
use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::stem;
use super::row::{Mark, Runtime, Version, Work};

pub(super) const DOTNET: Runtime = Runtime {
    name: "dotnet",
    executables: &["dotnet"],
    libraries: &["libcoreclr.so", "libhostfxr.so"],
    // A single-file application, native AOT, and an application's own host.
    hints: &[Mark::Symbol("DotNetRuntimeInfo"), Mark::Section("__managedcode"), Mark::Constant("hostfxr_main")],
    version: Version::MappedPath(version_in_path),
    // A task continues on any thread of the pool.
    work: Work::Scheduler,
    interprets: true,
    service_name,
    sdk_language: Some("dotnet"),
    runtime_name: Some(".NET"),
    ..Runtime::COMPILED
};

/// `8.0.1` of /usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so.
fn version_in_path(mapped: &Path) -> Option<CompactString> {
    let folder = mapped.parent()?;
    (folder.parent()?.file_name()? == OsStr::new("Microsoft.NETCore.App")).then_some(())?;
    folder.file_name()?.to_str().map(CompactString::from)
}

/// `dotnet [exec] Shop.dll`, `dotnet run --project Shop.csproj`.
fn service_name(launch: &Launch<'_>) -> ServiceName {
    let CommandLine::Arguments(arguments) = launch.command_line() else { return ServiceName::Titled };
    let assembly = arguments.iter().find(|argument| argument.ends_with(".dll")).copied();
    match assembly.or_else(|| option(&arguments, &["--project"])) {
        // Dots are part of the name, as in Shop.Api.dll. Only the extension goes.
        Some(path) => ServiceName::of(stem(path.trim_end_matches('/'))),
        None => ServiceName::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::named;

    #[rstest]
    #[case::assembly(&["dotnet", "/app/Shop.Api.dll", "--urls", "x"], ServiceName::of("Shop.Api"))]
    #[case::project(&["dotnet", "run", "--project", "src/Shop/"], ServiceName::of("Shop"))]
    #[case::tool(&["dotnet", "build"], ServiceName::Unknown)]
    fn dotnet_is_named_after_its_assembly(#[case] command: &[&str], #[case] expected: ServiceName) {
        assert_eq!(named(&DOTNET, "/usr/bin/dotnet", command, "/", &[]), expected);
    }
}
