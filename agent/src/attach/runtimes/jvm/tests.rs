//! A JVM in this process's own memory: its table of structs, its threads and their objects.

use rstest::rstest;

use super::*;

/// Offsets that no JVM has.
const OS_THREAD: usize = 24;
const OWN: usize = 40;
const CURRENT: usize = 48;
const CURRENT_ID: usize = 80;
const PTHREAD: u64 = 56;
const EETOP: usize = 2;
const ID: usize = 4;

/// Keeps what it is made of in place.
#[expect(clippy::vec_box, reason = "addresses of the elements must not change")]
struct Jvm {
    names: Vec<Box<[u8; 64]>>,
    table: Vec<[u64; 4]>,
    words: Vec<Box<[u64; 512]>>,
    layout: Vec<(&'static str, Box<u64>)>,
}

impl Jvm {
    /// `ids` are those of its threads. `colour` is 0 for plain pointers, or how far ZGC shifts them.
    fn new(ids: &[u64], colour: u64) -> Self {
        let mut jvm = Self { names: Vec::new(), table: Vec::new(), words: Vec::new(), layout: Vec::new() };
        let mut threads = vec![0; 1 + ids.len()];
        for (at, &id) in ids.iter().enumerate() {
            let object = jvm.place(&[]);
            let handle = jvm.place(&[object << colour | u64::from(colour != 0)]);
            let thread = jvm.place(&[]);
            jvm.set(thread, OWN / 8, handle);
            jvm.set(thread, CURRENT / 8, handle);
            jvm.set(thread, CURRENT_ID / 8, id);
            jvm.set(object, EETOP, thread);
            jvm.set(object, ID, id);
            // Something else that differs.
            jvm.set(object, ID + 1, id * 4096);
            threads[at] = thread;
        }
        let threads = jvm.place(&threads);
        let list = jvm.place(&[ids.len() as u64, threads]);
        let list = jvm.place(&[list]);
        let masks = [jvm.place(&[if colour == 0 { 0 } else { 2 }]), jvm.place(&[colour])];
        let instance = jvm.place(&masks);
        let instance = jvm.place(&[instance]);
        jvm.member("ThreadsSMRSupport", "_java_thread_list", 0, list);
        jvm.member("ThreadsList", "_length", 0, 0);
        jvm.member("ThreadsList", "_threads", 8, 0);
        jvm.member("Unrelated", "_threads", 16, 0);
        jvm.member("JavaThread", "_threadObj", OWN as u64, 0);
        jvm.member("JavaThread", "_vthread", CURRENT as u64, 0);
        jvm.member("Thread", "_osthread", OS_THREAD as u64, 0);
        jvm.member("OSThread", "_pthread_id", PTHREAD, 0);
        jvm.member("ZGlobalsForVMStructs", "_instance_p", 0, instance);
        jvm.member("ZGlobalsForVMStructs", "_ZPointerLoadBadMask", 0, 0);
        jvm.member("ZGlobalsForVMStructs", "_ZPointerLoadShift", 8, 0);
        jvm
    }

    /// Memory that begins with `words`.
    fn place(&mut self, words: &[u64]) -> u64 {
        let mut memory = Box::new([0; 512]);
        memory[..words.len()].copy_from_slice(words);
        self.words.push(memory);
        self.words.last().map(|memory| memory.as_ptr().addr() as u64).unwrap()
    }

    fn set(&mut self, place: u64, word: usize, value: u64) {
        let memory = self.words.iter_mut().find(|memory| memory.as_ptr().addr() as u64 == place);
        memory.unwrap()[word] = value;
    }

    fn member(&mut self, of: &str, name: &str, offset: u64, address: u64) {
        let [of, name] = [of, name].map(|text| {
            let mut bytes = Box::new([0; 64]);
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            self.names.push(bytes);
            self.names.last().map(|name| name.as_ptr().addr() as u64).unwrap()
        });
        self.table.push([of, name, offset, address]);
    }

    fn without(mut self, member: &str) -> Self {
        let named = |entry: &[u64; 4]| {
            self.names.iter().any(|name| name.as_ptr().addr() as u64 == entry[1] && name.starts_with(member.as_bytes()))
        };
        let kept = self.table.iter().filter(|entry| !named(entry)).copied().collect();
        self.table = kept;
        self
    }

    fn source(&mut self) -> Result<UnitSource, Unread> {
        self.source_with(&[])
    }

    /// With other values of the variables that describe the table.
    fn source_with(&mut self, others: &[(&str, u64)]) -> Result<UnitSource, Unread> {
        self.table.push([0; 4]);
        let table = self.table.as_ptr().addr() as u64;
        self.layout = [
            ("gHotSpotVMStructs", table),
            ("gHotSpotVMStructEntryTypeNameOffset", 0),
            ("gHotSpotVMStructEntryFieldNameOffset", 8),
            ("gHotSpotVMStructEntryOffsetOffset", 16),
            ("gHotSpotVMStructEntryAddressOffset", 24),
            ("gHotSpotVMStructEntryArrayStride", 32),
        ]
        .map(|(name, value)| {
            let other = others.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            (name, Box::new(other.unwrap_or(value)))
        })
        .into();
        let memory = Memory::open(&Process::myself().unwrap()).unwrap();
        source(&memory, |symbol| {
            let found = self.layout.iter().find(|(name, _)| *name == symbol);
            found.map(|(_, value)| std::ptr::from_ref::<u64>(value).addr() as u64)
        })
    }
}

#[rstest]
#[case::plain(0)]
#[case::coloured(13)]
fn offsets_are_found_in_the_table_and_in_the_objects(#[case] colour: u64) {
    let mut jvm = Jvm::new(&[1, 9, 10, 31, 8_000_000], colour);
    let words = jvm.source().unwrap().words;
    assert_eq!(jvm::unpair(words[jvm::THREAD]), [OS_THREAD as u64, PTHREAD]);
    assert_eq!(jvm::unpair(words[jvm::OBJECTS]), [OWN as u64, CURRENT as u64]);
    assert_eq!(jvm::unpair(words[jvm::IDS]), [ID as u64 * 8, 0]);
    assert_eq!((words[jvm::BAD_COLOURS] != 0, words[jvm::SHIFT] != 0), (colour != 0, colour != 0));
}

#[rstest]
#[case::of_the_running_thread(CURRENT_ID as u64, CURRENT_ID as u64)]
#[case::of_something_else(CURRENT_ID as u64 + 8, 0)]
#[case::beyond_the_thread(60_000, 0)]
fn the_id_of_the_running_thread_is_checked(#[case] claimed: u64, #[case] used: u64) {
    let mut jvm = Jvm::new(&[1, 9, 10, 31], 0);
    jvm.member("JavaThread", "_monitor_owner_id", claimed, 0);
    assert_eq!(jvm::unpair(jvm.source().unwrap().words[jvm::IDS])[1], used);
}

/// While the dynamic linker maps libjvm.so, the beginning of the file is where its variables will be.
#[test]
fn a_jvm_that_is_being_mapped_is_not_read_yet() {
    let source = Jvm::new(&[1, 9, 10, 31], 0).source_with(&[("gHotSpotVMStructEntryFieldNameOffset", 5_873_968)]);
    assert!(matches!(source, Err(Unread::NotYet(_))), "{source:?}");
}

#[test]
fn a_jdk_without_virtual_threads_has_no_unit_besides_its_threads() {
    let source = Jvm::new(&[1, 9, 10, 31], 0).without("_vthread").source();
    assert!(matches!(source, Err(Unread::Absent(_))), "{source:?}");
}

#[rstest]
#[case::few_threads(&[1, 9])]
#[case::ids_that_repeat(&[1, 9, 9, 31])]
#[case::no_low_id(&[1000, 1001, 1002, 1003])]
#[case::zero(&[0, 1, 2, 3])]
fn a_jvm_whose_ids_look_wrong_is_not_read_yet(#[case] ids: &[u64]) {
    let source = Jvm::new(ids, 0).source();
    assert!(matches!(source, Err(Unread::NotYet(_))), "{source:?}");
}

#[test]
fn two_places_that_look_like_ids_are_ambiguous() {
    let mut jvm = Jvm::new(&[1, 9, 10, 31], 0);
    for thread in 0..4 {
        // Of each thread: the object, the handle, and the thread.
        jvm.words[thread * 3][ID + 2] = thread as u64 + 7;
    }
    let source = jvm.source();
    assert!(matches!(source, Err(Unread::Unknown(_))), "{source:?}");
}

#[test]
fn a_library_that_does_not_say_where_threads_are_is_not_read() {
    for missing in ["_osthread", "_pthread_id", "_threadObj", "_threads", "_java_thread_list"] {
        let source = Jvm::new(&[1, 9, 10, 31], 0).without(missing).source();
        assert!(matches!(source, Err(Unread::Unknown(_))), "{missing}: {source:?}");
    }
}
