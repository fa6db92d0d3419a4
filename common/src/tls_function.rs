//! What a function of a TLS library does. Kernel programs get it as the cookie of their attachment.

/// What a function does, and where it has its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsFunction(u64);

/// Values of [`TlsFunction::what`].
pub mod what {
    /// Returns plaintext that was received. Arguments: the object, a buffer, its length.
    pub const READ: u32 = 1;
    /// Takes plaintext to send. The same arguments.
    pub const WRITE: u32 = 2;
    /// Takes the object.
    pub const HANDSHAKE: u32 = 3;
    /// Returns a new object.
    pub const CREATE: u32 = 4;
    /// Makes the object a client's.
    pub const CONNECT: u32 = 5;
    /// Makes the object a server's.
    pub const ACCEPT: u32 = 6;
    /// Takes encrypted records for the program to send. Arguments: where they go, a buffer, its length.
    pub const WRITE_RECORDS: u32 = 7;
    /// rustls: encrypts a record. Arguments: where the result goes, the encrypter, the message, its number.
    pub const ENCRYPT: u32 = 8;
    /// rustls: decrypts a record. The same arguments, with a decrypter.
    pub const DECRYPT: u32 = 9;
}

const RESULT_SHIFT: u32 = 8;
const RESULT_MASK: u64 = 0xff;
const BY_SIGNATURE: u64 = 1 << 16;
const TLS_1_3: u64 = 1 << 17;

impl TlsFunction {
    pub const READ: Self = Self(what::READ as u64);
    pub const WRITE: Self = Self(what::WRITE as u64);
    pub const HANDSHAKE: Self = Self(what::HANDSHAKE as u64);
    pub const CREATE: Self = Self(what::CREATE as u64);
    pub const CONNECT: Self = Self(what::CONNECT as u64);
    pub const ACCEPT: Self = Self(what::ACCEPT as u64);
    pub const WRITE_RECORDS: Self = Self(what::WRITE_RECORDS as u64);
    pub const ENCRYPT: Self = Self(what::ENCRYPT as u64);
    pub const DECRYPT: Self = Self(what::DECRYPT as u64);

    /// The same function with an argument that is an address for the result, by its index.
    #[must_use]
    pub const fn with_result_at(self, argument: u8) -> Self {
        Self(self.0 | (argument as u64 + 1) << RESULT_SHIFT)
    }

    /// The same function if it was found by its code, so it may be another one.
    #[must_use]
    pub const fn found_by_signature(self) -> Self {
        Self(self.0 | BY_SIGNATURE)
    }

    /// The same function for records of TLS 1.3, whose type is encrypted with their plaintext.
    #[must_use]
    pub const fn of_tls_1_3(self) -> Self {
        Self(self.0 | TLS_1_3)
    }

    #[must_use]
    #[inline(always)]
    pub const fn cookie(self) -> u64 {
        self.0
    }

    #[must_use]
    #[inline(always)]
    pub const fn of_cookie(cookie: u64) -> Self {
        Self(cookie)
    }

    /// One of [`what`].
    #[must_use]
    #[inline(always)]
    pub const fn what(self) -> u32 {
        (self.0 & ((1 << RESULT_SHIFT) - 1)) as u32
    }

    /// The index of the argument that is an address for the result, plus one. 0 if there is none.
    #[must_use]
    #[inline(always)]
    pub const fn result_argument(self) -> u64 {
        self.0 >> RESULT_SHIFT & RESULT_MASK
    }

    #[must_use]
    #[inline(always)]
    pub const fn is_of_tls_1_3(self) -> bool {
        self.0 & TLS_1_3 != 0
    }

    #[must_use]
    #[inline(always)]
    pub const fn is_by_signature(self) -> bool {
        self.0 & BY_SIGNATURE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{TlsFunction, what};

    #[test]
    fn a_cookie_says_all_of_a_function() {
        let function = TlsFunction::of_cookie(TlsFunction::READ.with_result_at(3).found_by_signature().cookie());
        assert_eq!((function.what(), function.result_argument(), function.is_by_signature()), (what::READ, 4, true));
        let of_rustls = TlsFunction::of_cookie(TlsFunction::ENCRYPT.of_tls_1_3().cookie());
        assert_eq!(
            (of_rustls.what(), of_rustls.is_of_tls_1_3(), of_rustls.is_by_signature()),
            (what::ENCRYPT, true, false)
        );
        assert!(!TlsFunction::DECRYPT.is_of_tls_1_3());
        let plain = TlsFunction::WRITE_RECORDS;
        assert_eq!((plain.what(), plain.result_argument(), plain.is_by_signature()), (what::WRITE_RECORDS, 0, false));
    }
}
