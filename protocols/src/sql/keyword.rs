//! The words of SQL that matter to the summary or the text.

/// Declares the enum and the conversion of a word. A keyword with an underscore is given with its spelling.
macro_rules! keywords {
    ($($name:ident $(= $spelling:literal)?)*) => {
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Keyword {
            /// A name, or a keyword that does not matter.
            #[default]
            None,
            $($name,)*
        }

        /// Each word with its keyword.
        const WORDS: &[(u128, Keyword)] =
            &[$((Packed::of(keywords!(@spelling $name $($spelling)?)).0, Keyword::$name),)*];
    };
    (@spelling $name:ident) => { stringify!($name) };
    (@spelling $name:ident $spelling:literal) => { $spelling };
}

keywords! {
    Access All Alter Analyse Analyze And Array As Asc Authorization Begin Between Call Case Class Concurrently Constraint
    Copy Create Data Declare Default Delete Desc Distinct Drop Dumpfile Else End Event Except Exists Explain False Family
    Fetch For Foreign From Function Global Grant Group Having If Ignore Ilike In Index Insert Intersect Into Is Join Lateral
    Like Limit Local Lock LowPriority = "LOW_PRIORITY" Mapping Materialized Merge Not Null Offset On Only Operator Or Order
    Outfile Password Policy Prepare Procedural Procedure Recursive Refresh Replace Returning Revoke Role Rows Rule Search
    Select Session Set Start System Table Temp Temporary Text Then To Transaction Trigger True Truncate Trusted Union Unique
    Unlogged Update User Using Values Verbose View When Where Window With
}

/// The letters of a word as one number, regardless of case. A hash table finds its keyword.
///
/// A word with more than 16 letters is 0. That is never a keyword, because all keywords are shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed(u128);

/// Slots of the hash table of [`WORDS`]. Most words of a statement are no keywords, and find an empty slot.
const SLOTS: usize = 1024;

/// One more than the index in [`WORDS`], or 0 for an empty slot. A word whose slot is taken has the next one.
static TABLE: [u8; SLOTS] = {
    let mut table = [0; SLOTS];
    let mut index = 0;
    while index < WORDS.len() {
        let mut slot = Packed(WORDS[index].0).slot();
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        index += 1;
        assert!(index <= u8::MAX as usize);
        table[slot] = index as u8;
    }
    table
};

impl Packed {
    #[inline]
    pub(super) fn keyword(self) -> Keyword {
        let mut slot = self.slot();
        while let Some(index) = usize::from(TABLE[slot]).checked_sub(1) {
            let (word, keyword) = WORDS[index];
            if word == self.0 {
                return keyword;
            }
            slot = (slot + 1) % SLOTS;
        }
        Keyword::None
    }

    /// Its first slot.
    const fn slot(self) -> usize {
        /// The golden ratio of 64 bits: its products differ in their upper bits.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let folded = (self.0 as u64) ^ ((self.0 >> 64) as u64).wrapping_mul(FACTOR);
        (folded.wrapping_mul(FACTOR) >> (u64::BITS - SLOTS.ilog2())) as usize
    }

    /// The word of this length, not 0, that `text` begins with.
    #[inline]
    pub(super) fn new(text: &[u8], length: usize) -> Self {
        const BITS: usize = u128::BITS as usize;
        if length > size_of::<u128>() {
            return Self(0);
        }
        // Reading all bytes at once is faster than one after the other.
        let bytes = text.first_chunk().map_or_else(
            || {
                let mut bytes = [0; size_of::<u128>()];
                bytes[..length].copy_from_slice(&text[..length]);
                u128::from_le_bytes(bytes)
            },
            |chunk| u128::from_le_bytes(*chunk),
        );
        Self(bytes & UPPER_CASE & (u128::MAX >> (BITS - 8 * length)))
    }

    const fn of(word: &str) -> Self {
        let mut packed = 0;
        let mut at = word.len();
        while at > 0 {
            at -= 1;
            packed = packed << 8 | word.as_bytes()[at] as u128;
        }
        Self(packed & UPPER_CASE)
    }
}

/// The bits of a letter that do not depend on its case, in each byte.
const UPPER_CASE: u128 = u128::from_ne_bytes([0xdf; 16]);
