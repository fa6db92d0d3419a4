//! Small files with the code that compilers make of the libraries, as seen in Envoy 1.40, grpcio 1.85 and Node 20.

use super::*;

/// Where the strings and the code are, in the file and in memory.
const STRINGS: u64 = 0x1000;
const CODE: u64 = 0x2000;
const TABLE: u64 = 0x3000;
const FUNCTION: u64 = 0x100;

/// An ELF file with strings, and functions of 256 bytes each.
struct Fixture {
    strings: Vec<u8>,
    functions: Vec<Vec<u8>>,
}

impl Fixture {
    fn new() -> Self {
        Self { strings: vec![0], functions: Vec::new() }
    }

    fn string(&mut self, text: &str) -> u64 {
        let at = STRINGS + self.strings.len() as u64;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn function(&mut self, parts: &[Part]) -> Range<u64> {
        let start = CODE + FUNCTION * self.functions.len() as u64;
        let mut code = Vec::new();
        for part in parts {
            part.encode(start, &mut code);
        }
        code.push(0xc3);
        assert!(code.len() as u64 <= FUNCTION);
        // int3
        code.resize(FUNCTION as usize, 0xcc);
        self.functions.push(code);
        start..start + FUNCTION
    }

    fn content(&self) -> Vec<u8> {
        let mut file = vec![0; TABLE as usize];
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        file[16..24].copy_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
        file[32] = 64;
        file[52..58].copy_from_slice(&[64, 0, 56, 0, 3, 0]);
        let table = self.table();
        // PT_LOAD and PT_GNU_EH_FRAME: the kind, the flags, the offset, two addresses, two lengths, the alignment.
        let headers = [
            (1_u32, 4_u32, STRINGS, CODE - STRINGS),
            (1, 5, CODE, TABLE - CODE),
            (0x6474_e550, 4, TABLE, table.len() as u64),
        ];
        for (index, (kind, flags, at, length)) in headers.into_iter().enumerate() {
            let words = [u64::from(kind) | u64::from(flags) << 32, at, at, at, length, length, 8];
            let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            file[64 + 56 * index..][..56].copy_from_slice(&header);
        }
        file[STRINGS as usize..][..self.strings.len()].copy_from_slice(&self.strings);
        let code = self.functions.concat();
        file[CODE as usize..][..code.len()].copy_from_slice(&code);
        file.extend(table);
        file
    }

    /// `.eh_frame_hdr`, with no descriptions: functions end where the next begins.
    fn table(&self) -> Vec<u8> {
        let mut table = vec![1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0];
        let count = self.functions.len() as u64 + 1;
        table.extend((count as u32).to_le_bytes());
        for index in 0..count {
            let start = (CODE + FUNCTION * index).wrapping_sub(TABLE) as u32;
            table.extend(start.to_le_bytes());
            table.extend(0_u32.to_le_bytes());
        }
        table
    }
}

enum Part {
    /// `ERR_put_error(16, 0, reason, file, line)`
    Report(u32, u64, u32),
    /// The same, but another report's call instruction is used.
    ReportElsewhere(u32, u64, u32),
    /// `ERR_set_debug(file, line, function)`
    Debug(u64, u64),
    /// `mov [rax + 0x80], rcx`
    Store,
}

impl Part {
    fn encode(&self, start: u64, code: &mut Vec<u8>) {
        let lea = |code: &mut Vec<u8>, opcode: [u8; 3], to: u64| {
            code.extend(opcode);
            let end = start + code.len() as u64 + 4;
            code.extend((to.wrapping_sub(end) as u32).to_le_bytes());
        };
        let call = [0xe8, 0, 0, 0, 0];
        match self {
            Self::Report(reason, file, line) | Self::ReportElsewhere(reason, file, line) => {
                lea(code, [0x48, 0x8d, 0x0d], *file);
                code.extend([0xbf, 16, 0, 0, 0, 0x31, 0xf6, 0xba]);
                code.extend(reason.to_le_bytes());
                code.extend([0x41, 0xb8]);
                code.extend(line.to_le_bytes());
                if matches!(self, Self::Report(..)) { code.extend(call) } else { code.extend([0xeb, 0]) }
            }
            Self::Debug(file, function) => {
                lea(code, [0x48, 0x8d, 0x15], *function);
                lea(code, [0x48, 0x8d, 0x3d], *file);
                code.extend([0xbe, 7, 0, 0, 0]);
                code.extend(call);
            }
            Self::Store => code.extend([0x48, 0x89, 0x88, 0x80, 0, 0, 0]),
        }
    }
}

fn find(library: &str, content: &[u8]) -> Vec<Function> {
    let elf = Elf::open(&content).unwrap();
    SIGNATURES.iter().find(|signature| signature.library == library).unwrap().find(&elf)
}

fn boringssl() -> (Fixture, Vec<Function>) {
    let mut fixture = Fixture::new();
    let file = fixture.string("external/boringssl+/ssl/ssl_lib.cc");
    let new = fixture.function(&[Part::Report(185, file, 491)]);
    // SSL_provide_quic_data and SSL_do_handshake
    fixture.function(&[Part::Report(66, file, 819), Part::Store]);
    fixture.function(&[Part::Report(134, file, 731), Part::Store]);
    let peek = fixture.function(&[Part::Report(66, file, 940)]);
    let read = fixture.function(&[Part::Report(66, file, 940), Part::Store]);
    let write = fixture.function(&[
        Part::Report(66, file, 962),
        Part::ReportElsewhere(226, file, 967),
        Part::ReportElsewhere(111, file, 988),
        Part::Store,
    ]);
    // SSL_key_update
    fixture.function(&[Part::Report(66, file, 1052), Part::Store]);
    let function = |name, addresses| Function { name, addresses };
    assert_ne!(peek, read);
    let expected = vec![function("SSL_read", read), function("SSL_write", write), function("SSL_new", new)];
    (fixture, expected)
}

fn openssl() -> (Fixture, Vec<Function>) {
    let mut fixture = Fixture::new();
    let ssl = fixture.string("../deps/openssl/ssl/ssl_lib.c");
    let bio = fixture.string("../deps/openssl/crypto/bio/bio_lib.c");
    let mut name = |text: &str| fixture.string(text);
    let (read, read_internal) = (name("SSL_read"), name("ssl_read_internal"));
    let (write, write_internal) = (name("SSL_write"), name("ssl_write_internal"));
    let (new, bio_write) = (name("SSL_new"), name("bio_write_intern"));
    // The name of another function ends with the name of one.
    let other = name("my_SSL_read");
    fixture.function(&[Part::Debug(ssl, other)]);
    let function = |name, addresses| Function { name, addresses };
    let expected = vec![
        function("SSL_read", fixture.function(&[Part::Debug(ssl, read), Part::Debug(ssl, read_internal)])),
        function("SSL_read_ex", fixture.function(&[Part::Debug(ssl, read_internal)])),
        function("SSL_write", fixture.function(&[Part::Debug(ssl, write)])),
        function("SSL_write_ex", fixture.function(&[Part::Debug(ssl, write_internal)])),
        function("SSL_new", fixture.function(&[Part::Debug(ssl, new)])),
        function("BIO_write", fixture.function(&[Part::Debug(bio, bio_write)])),
    ];
    (fixture, expected)
}

#[test]
fn functions_of_boringssl_are_found_and_ssl_peek_is_not_ssl_read() {
    let (fixture, expected) = boringssl();
    assert_eq!(find("BoringSSL", &fixture.content()), expected);
    assert_eq!(find("OpenSSL", &fixture.content()), []);
}

#[test]
fn functions_of_openssl_are_found_by_the_names_that_they_report() {
    let (fixture, expected) = openssl();
    assert_eq!(find("OpenSSL", &fixture.content()), expected);
    assert_eq!(find("BoringSSL", &fixture.content()), []);
}

#[test]
fn a_version_of_boringssl_with_other_reasons_is_unknown() {
    let mut fixture = Fixture::new();
    let file = fixture.string("ssl/ssl_lib.cc");
    fixture.function(&[Part::Report(66, file, 940), Part::Store]);
    fixture.function(&[Part::Report(66, file, 962), Part::Report(227, file, 967), Part::Store]);
    assert_eq!(find("BoringSSL", &fixture.content()), []);
}

#[test]
fn two_functions_with_the_reasons_of_ssl_write_are_not_believed() {
    let (mut fixture, _) = boringssl();
    let file = STRINGS + 1;
    fixture.function(&[66, 226, 111].map(|reason| Part::Report(reason, file, 962)));
    assert_eq!(find("BoringSSL", &fixture.content()), []);
}

#[test]
fn damaged_files_cause_no_panic() {
    for (fixture, _) in [boringssl(), openssl()] {
        let whole = fixture.content();
        let used = (0..256).chain(STRINGS as usize..STRINGS as usize + 256).chain(CODE as usize..CODE as usize + 600);
        for at in used.chain(TABLE as usize..whole.len()) {
            for byte in [0, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                let content = damaged.as_slice();
                let Some(elf) = Elf::open(&content) else { continue };
                for function in SIGNATURES.iter().flat_map(|signature| signature.find(&elf)) {
                    let returns = code::returns(&elf, &function.addresses).unwrap_or_default();
                    assert!(returns.iter().all(|offset| *offset < damaged.len() as u64));
                }
            }
        }
    }
}

/// Found by fuzzing: the offset of the other segment is near the end of all numbers.
#[test]
fn returns_are_in_the_segment_of_their_function() {
    let mut fixture = Fixture::new();
    let function = fixture.function(&[Part::Store]);
    let mut file = fixture.content();
    let headers = 64;
    file[headers + 8..headers + 16].copy_from_slice(&0xffff_ffff_ffff_fe00_u64.to_le_bytes());
    file[headers + 16..headers + 24].copy_from_slice(&(CODE + 1).to_le_bytes());
    let content = file.as_slice();
    let elf = Elf::open(&content).unwrap();
    let returns = code::returns(&elf, &function).unwrap();
    assert!(returns.iter().all(|offset| (CODE..TABLE).contains(offset)), "{returns:x?}");
}

/// The seeds of the fuzz target. To write them again after a change, run this test with `WRITE_CORPUS=1`.
#[test]
fn seeds_of_the_fuzz_target_are_these_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocols/fuzz/corpus/elf");
    for (name, (fixture, _)) in [("boringssl", boringssl()), ("openssl", openssl())] {
        let (path, seed) = (format!("{folder}/{name}"), fixture.content());
        if std::env::var_os("WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(&path, &seed).unwrap();
        }
        assert!(std::fs::read(&path).unwrap_or_default() == seed, "{path}: run with WRITE_CORPUS=1");
    }
}
