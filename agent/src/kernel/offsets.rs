//! Finds the offsets of struct members in the running kernel's types.

use onlooker_common::offsets::Offsets;

use super::types::{KernelTypes, Named, Names};

/// A member that this kernel does not have, and what needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MissingField {
    pub structure: &'static str,
    pub member: &'static str,
    pub needed_for: &'static str,
}

/// The structs with the members.
pub(super) fn structs() -> Names {
    let mut names = Names::default();
    let note = |structure: &'static str, _| {
        names.insert(structure.to_owned(), Named::Struct);
        None
    };
    Offsets::resolve(note, |_, _, _| {});
    names
}

/// Resolves every offset. Also returns the members that are missing.
pub(super) fn resolve(types: &KernelTypes) -> (Offsets, Vec<MissingField>) {
    let mut missing = Vec::new();
    let offsets = Offsets::resolve(
        |structure, member| types.offset(structure, member),
        |structure, member, needed_for| missing.push(MissingField { structure, member, needed_for }),
    );
    (offsets, missing)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use onlooker_common::offsets::MISSING;

    use super::*;

    #[test]
    fn this_kernels_members_are_found() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        if !path.exists() {
            println!("skipped: this kernel has no BTF");
            return;
        }
        let types = KernelTypes::read(path, &structs()).unwrap();
        let (offsets, _) = resolve(&types);
        // A plain member, one in an anonymous union, a nested path, and one behind several structs.
        assert_ne!(offsets.write_seq, MISSING);
        assert_ne!(offsets.remote_port, MISSING);
        assert_ne!(offsets.net_inode, MISSING);
        assert_ne!(offsets.dentry_name, MISSING);
        // struct sock_common begins with the two IPv4 addresses, in a union.
        assert_eq!((offsets.remote_v4, offsets.local_v4), (0, 4));
        assert_eq!(types.offset("sock_common", "no_such_member"), None);
        assert_eq!(types.offset("no_such_struct", "member"), None);
    }
}
