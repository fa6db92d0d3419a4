//! JSSE, the TLS of the JDK, in JVMs that have loaded `java/native`: see `attach::java`.

use super::{Finder, Hook, Library};
use crate::attach::java;

pub(super) static LIBRARY: Library =
    Library { name: "JSSE", finder: Finder::Java, hooks: &[Hook::by(java::OBSERVED, "java_observe")] };
