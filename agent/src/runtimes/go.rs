//! Go: recognised by what its linker leaves in every executable, whatever that is called.

use onlooker_common::unit;

use super::row::{Enrolment, Mark, Runtime, Version, Work};
use crate::attach::UnitOfWork;
use crate::attach::runtimes::go::{self, build_information};

pub(super) const GO: Runtime = Runtime {
    name: "go",
    // A note of type 4 by `Go`.
    proof: &[Mark::Section(build_information::SECTION), Mark::Note(b"\x04\0\0\0Go\0\0")],
    version: Version::Section(build_information::SECTION, build_information::release),
    // A goroutine continues on any thread.
    work: Work::Scheduler,
    enrolment: Enrolment::OfEveryRequest,
    unit_of_work: Some(UnitOfWork { kind: unit::GOROUTINE, find: go::find }),
    unit_origin: Some(go::describe),
    functions: Some(go::functions),
    sdk_language: Some("go"),
    runtime_name: Some("go"),
    ..Runtime::COMPILED
};
