//! The words of SQL that matter to the summary or the text.

/// Declares the enum and the conversion of a word. A keyword with an underscore is given with its spelling.
macro_rules! keywords {
    ($($name:ident $(= $spelling:literal)?)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Keyword {
            /// A name, or a keyword that does not matter.
            None,
            $($name,)*
        }

        impl Packed {
            #[expect(non_upper_case_globals, reason = "each is named as the keyword it stands for")]
            pub(super) fn keyword(self) -> Keyword {
                $(const $name: u128 = Packed::of(keywords!(@spelling $name $($spelling)?)).0;)*
                match self.0 {
                    $($name => Keyword::$name,)*
                    _ => Keyword::None,
                }
            }
        }
    };
    (@spelling $name:ident) => { stringify!($name) };
    (@spelling $name:ident $spelling:literal) => { $spelling };
}

keywords! {
    Alter Analyse Analyze As Call Concurrently Constraint Copy Create Default Delete Distinct Drop Dumpfile Event Except
    Exists Explain False Fetch For Foreign From Global Grant Group Having If Ignore In Index Insert Intersect Into Join
    Lateral Limit Local Lock LowPriority = "LOW_PRIORITY" Materialized Merge Not Null Offset On Only Or Order Outfile
    Password Policy Prepare Recursive Replace Returning Revoke Role Rows Rule Select Session Set Start System Table Temp Temporary To Transaction Trigger
    True Truncate Union Unique Unlogged Update User Using Values Verbose View When Where Window With
}

/// The letters of a word as one number, regardless of case. Comparing numbers finds a keyword in few steps.
///
/// A word with more than 16 letters keeps its last 16. That is never a keyword: all keywords are shorter, and so have
/// zeros in front.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Packed(u128);

impl Packed {
    pub(super) const fn push(&mut self, byte: u8) {
        const UPPER_CASE: u8 = 0xdf;
        self.0 = self.0 << 8 | (byte & UPPER_CASE) as u128;
    }

    const fn of(word: &str) -> Self {
        let mut packed = Self(0);
        let mut at = 0;
        while at < word.len() {
            packed.push(word.as_bytes()[at]);
            at += 1;
        }
        packed
    }
}
