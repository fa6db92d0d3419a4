//! Finds the offsets of struct members in the running kernel's BTF.

use btf_rs::{Btf, BtfType, Type};
use onlooker_common::offsets::Offsets;

/// A member that this kernel does not have, and what needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MissingField {
    pub structure: &'static str,
    pub member: &'static str,
    pub needed_for: &'static str,
}

/// Resolves every offset. Also returns the members that are missing.
pub fn resolve(btf: &Btf) -> (Offsets, Vec<MissingField>) {
    let mut missing = Vec::new();
    let offsets = Offsets::resolve(
        |structure, member| find(btf, structure, member),
        |structure, member, needed_for| missing.push(MissingField { structure, member, needed_for }),
    );
    (offsets, missing)
}

/// Byte offset of `path` (`a` or `a.b`) in `structure`, looking through anonymous structs and unions.
fn find(btf: &Btf, structure: &str, path: &str) -> Option<u32> {
    let members = btf.resolve_types_by_name(structure).ok()?.into_iter().find_map(|found| match found {
        Type::Struct(s) if !s.members.is_empty() => Some(s),
        _ => None,
    })?;
    let mut parts = path.split('.');
    let (mut offset, mut inner) = member(btf, &members, parts.next()?)?;
    for part in parts {
        let Type::Struct(next) = inner else { return None };
        let (further, deeper) = member(btf, &next, part)?;
        offset += further;
        inner = deeper;
    }
    Some(offset)
}

/// Offset and type of a member of `structure`.
fn member(btf: &Btf, structure: &btf_rs::Struct, name: &str) -> Option<(u32, Type)> {
    for candidate in &structure.members {
        let bits = candidate.bit_offset();
        let resolved = || strip(btf, btf.resolve_chained_type(candidate).ok()?);
        if btf.resolve_name(candidate).is_ok_and(|n| n == name) {
            // A bit field has no address.
            if !bits.is_multiple_of(8) || candidate.bitfield_size().is_some_and(|size| size > 0) {
                return None;
            }
            return Some((bits / 8, resolved()?));
        }
        let anonymous = btf.resolve_name(candidate).map_or(true, |n| n.is_empty());
        if anonymous
            && let Some(Type::Struct(inner) | Type::Union(inner)) = resolved()
            && let Some((offset, found)) = member(btf, &inner, name)
        {
            return Some((bits / 8 + offset, found));
        }
    }
    None
}

/// Removes typedefs and qualifiers.
fn strip(btf: &Btf, mut found: Type) -> Option<Type> {
    loop {
        let inner: &dyn BtfType = match &found {
            Type::Typedef(t) => t,
            Type::Const(t) => t,
            Type::Volatile(t) => t,
            Type::TypeTag(t) => t,
            _ => return Some(found),
        };
        found = btf.resolve_chained_type(inner).ok()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlooker_common::offsets::MISSING;

    #[test]
    fn this_kernels_members_are_found() -> Result<(), btf_rs::Error> {
        let path = "/sys/kernel/btf/vmlinux";
        if !std::path::Path::new(path).exists() {
            println!("skipped: this kernel has no BTF");
            return Ok(());
        }
        let btf = Btf::from_file(path)?;
        let (offsets, _) = resolve(&btf);
        // A plain member, one in an anonymous union, and a nested path.
        assert_ne!(offsets.write_seq, MISSING);
        assert_ne!(offsets.remote_port, MISSING);
        assert_ne!(offsets.net_inode, MISSING);
        // struct sock_common begins with the two IPv4 addresses, in a union.
        assert_eq!((offsets.remote_v4, offsets.local_v4), (0, 4));
        assert_eq!(find(&btf, "sock_common", "no_such_member"), None);
        assert_eq!(find(&btf, "no_such_struct", "member"), None);
        Ok(())
    }
}
