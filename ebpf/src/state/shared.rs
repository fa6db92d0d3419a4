//! How a state and its pointer type are declared.

/// Declares a struct of words, and the pointer type through which it is used in place.
///
/// After the words may follow structs in `place`: their getter returns their own pointer type.
macro_rules! shared {
    (
        $(#[$state_doc:meta])*
        struct $state:ident;
        $(#[$pointer_doc:meta])*
        pointer $pointer:ident;
        words { $($(#[$word_doc:meta])* $word:ident, $set_word:ident: $word_type:ty;)+ }
        structs { $($(#[$inner_doc:meta])* $inner:ident: $inner_type:ty as $inner_pointer:ty;)* }
    ) => {
        $(#[$state_doc])*
        #[repr(C)]
        pub struct $state {
            $($(#[$inner_doc])* $inner: $inner_type,)*
            $($(#[$word_doc])* $word: $word_type,)+
        }

        $(#[$pointer_doc])*
        #[derive(Clone, Copy)]
        pub struct $pointer(*mut $state);

        #[allow(dead_code, reason = "not every field is used in both ways")]
        impl $pointer {
            /// `None` for a null pointer.
            ///
            /// # Safety
            /// The pointer must be null, or point to a live value for as long as the program runs.
            #[inline(always)]
            pub unsafe fn new(state: *mut $state) -> Option<Self> {
                if state.is_null() { None } else { Some(Self(state)) }
            }

            #[inline(always)]
            pub fn as_ptr(self) -> *mut $state {
                self.0
            }

            $(
                $(#[$inner_doc])*
                #[inline(always)]
                pub fn $inner(self) -> $inner_pointer {
                    // SAFETY: a member of a live value.
                    unsafe { <$inner_pointer>::within(&raw mut (*self.0).$inner) }
                }
            )*

            $(
                $(#[$word_doc])*
                #[inline(always)]
                pub fn $word(self) -> $word_type {
                    // SAFETY: a member of a live value.
                    unsafe { (*self.0).$word }
                }

                #[inline(always)]
                pub fn $set_word(self, value: $word_type) {
                    // SAFETY: a member of a live value.
                    unsafe { (*self.0).$word = value }
                }
            )+

            /// # Safety
            /// The pointer must point to a live value for as long as the program runs.
            #[inline(always)]
            pub unsafe fn within(state: *mut $state) -> Self {
                Self(state)
            }
        }
    };
}
pub(crate) use shared;
