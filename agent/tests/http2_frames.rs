//! What the kernel programs record of HTTP/2 connections, compared with what passed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use onlooker::kernel::ring::Ring;
use onlooker::kernel::{Control, Kernel, LoadError, Losses, Options, Selection};
use onlooker_common::capture::Capture;
use onlooker_common::decode::Event;
use onlooker_common::frames::{HEADER, PREFACE, captured_of_payload, kind};
use onlooker_common::limits;
use onlooker_common::losses::Loss;
use onlooker_common::segment::{Segment, TAIL_BYTES, flag};
use onlooker_tests::record_skip;
use rstest::rstest;
use tokio::runtime::{self, Runtime};

/// The recorder selects this process, so one test runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The kernel programs, which record this process.
struct Recorder {
    ring: Ring,
    control: Control,
    losses: Losses,
    _selection: Selection,
    _kernel: Kernel,
    _runtime: Runtime,
}

/// What was recorded of one end of a connection, by direction: 0 received, 1 sent.
type Recorded = BTreeMap<u64, [Vec<(Segment, Vec<u8>)>; 2]>;

impl Recorder {
    /// `None` where programs may not be loaded.
    fn start() -> Option<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let inside = runtime.enter();
        let mut kernel = match Kernel::load(&Options::default()) {
            Err(LoadError::NotPermitted(why)) => {
                record_skip(&why);
                return None;
            }
            loaded => loaded.unwrap(),
        };
        let ring = kernel.ring().unwrap();
        let control = kernel.control().unwrap();
        let losses = kernel.losses().unwrap();
        let capture = Capture { request: limits::REQUEST_CAPTURE, response: limits::RESPONSE_CAPTURE };
        let mut selection = kernel.selection(capture).unwrap();
        kernel.attach(&[]).unwrap();
        selection.select(std::process::id(), 0).unwrap();
        drop(inside);
        Some(Self { ring, control, losses, _selection: selection, _kernel: kernel, _runtime: runtime })
    }

    fn drain(&mut self) -> Recorded {
        let mut recorded = Recorded::new();
        self.ring.drain(usize::MAX, |record| {
            if let Ok(Event::Segment(segment, captured)) = Event::decode(record) {
                let way = usize::from(segment.flags & flag::EGRESS != 0);
                recorded.entry(segment.cookie).or_default()[way].push((*segment, captured.to_vec()));
            }
        });
        recorded
    }

    fn lost_frames(&self) -> u64 {
        self.losses.count(Loss::FramesLost)
    }
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Payload bytes that look like frames of HEADERS, for whoever loses count.
fn body(length: usize) -> Vec<u8> {
    [0, 0, 4, kind::HEADERS, 4, 0, 0, 0x7f, 0xff].into_iter().cycle().take(length).collect()
}

/// What a client sends for `requests`, with bodies of up to `longest` bytes in frames of up to 16 KiB.
fn conversation(requests: u32, longest: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let mut frames = vec![frame(kind::SETTINGS, 0, 0, &[0; 12]), frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])];
    for request in 0..requests {
        let stream = 2 * request + 1;
        frames.push(frame(kind::HEADERS, 4, stream, &body(10 + random.below(700))));
        if random.below(3) == 0 {
            frames.push(frame(kind::CONTINUATION, 4, stream, &body(random.below(9000))));
        }
        let mut left = random.below(longest);
        while left > 0 {
            let length = 1 + random.below(left.min(16_384));
            frames.push(frame(kind::DATA, if random.below(4) == 0 { 8 } else { 0 }, stream, &body(length)));
            left -= length;
        }
        frames.push(frame(kind::DATA, 1, stream, &[]));
        if random.below(5) == 0 {
            frames.push(frame(kind::PING, 0, 0, &[7; 8]));
            frames.push(frame(0xbe, 0, stream, &body(random.below(2000))));
        }
    }
    frames.push(frame(kind::GOAWAY, 0, 0, &[0; 300]));
    frames
}

/// Which bytes of a stream of frames must be captured, and the positions of frames that open streams.
fn expected(bytes: &[u8], start: usize) -> (Vec<bool>, Vec<usize>) {
    let mut captured = vec![false; bytes.len()];
    captured[..start].fill(true);
    let (mut at, mut opened, mut newest) = (start, Vec::new(), 0);
    while let Some(header) = bytes.get(at..at + HEADER as usize) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        if header[3] == kind::HEADERS && stream > newest {
            newest = stream;
            opened.push(at);
        }
        let kept = HEADER + captured_of_payload(header[3], header[4], length);
        captured[at..at + kept as usize].fill(true);
        at += (HEADER + length) as usize;
    }
    assert_eq!(at, bytes.len(), "the last frame is whole");
    (captured, opened)
}

/// Checks that the segments cover the bytes exactly, that captured bytes are right, and that all that must be captured is.
fn check(segments: &[(Segment, Vec<u8>)], bytes: &[u8], must: &[bool]) -> usize {
    let first = segments[0].0.position;
    let mut next = first;
    let (mut seen, mut in_ring) = (vec![false; bytes.len()], 0);
    for (segment, captured) in segments {
        assert_eq!(segment.position, next, "no hole and no overlap");
        assert!(captured.len() <= segment.length as usize);
        assert!(segment.length > 0);
        next += u64::from(segment.length);
        let at = (segment.position - first) as usize;
        let is_prefix = captured[..] == bytes[at..at + captured.len()];
        assert!(is_prefix, "captured bytes are a prefix of the segment: {at} {} {}", captured.len(), segment.length);
        seen[at..at + captured.len()].fill(true);
        let tail = usize::from(segment.tail_length);
        let end = at + segment.length as usize;
        assert_eq!(segment.tail[TAIL_BYTES - tail..], bytes[end - tail..end]);
        seen[end - tail..end].fill(true);
        in_ring += size_of::<Segment>() + captured.len();
    }
    assert_eq!(next - first, bytes.len() as u64);
    let hidden = (0..bytes.len()).find(|&at| must[at] && !seen[at]);
    assert_eq!(hidden, None, "everything that a parser needs is captured");
    in_ring
}

/// How an end cuts its bytes into operations.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Frames,
    /// Operations of up to so many bytes.
    Up(usize),
    /// Vectored operations with buffers of up to so many bytes.
    Vectored(usize),
}

fn write(mut socket: &TcpStream, bytes: &[u8], frames: &[Vec<u8>], cut: Cut, random: &mut Random) {
    match cut {
        Cut::Frames => frames.iter().for_each(|frame| socket.write_all(frame).unwrap()),
        Cut::Up(most) => {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + random.below(most.min(rest.len())));
                socket.write_all(now).unwrap();
                rest = later;
            }
        }
        Cut::Vectored(most) => {
            let mut rest = bytes;
            while !rest.is_empty() {
                let mut buffers = Vec::new();
                let mut here = rest;
                for _ in 0..1 + random.below(40) {
                    let (now, later) = here.split_at(random.below(most.min(here.len() + 1)));
                    buffers.push(IoSlice::new(now));
                    here = later;
                }
                let written = socket.write_vectored(&buffers).unwrap();
                rest = &rest[written..];
            }
        }
    }
}

fn read(mut socket: &TcpStream, length: usize, most: usize, random: &mut Random) {
    let mut buffer = vec![0; most];
    let mut left = length;
    while left > 0 {
        let room = 1 + random.below(most);
        left -= socket.read(&mut buffer[..room.min(left)]).unwrap();
    }
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().unwrap().0)
}

#[rstest]
#[case::by_frames(Cut::Frames, 65_536)]
#[case::in_large_writes(Cut::Up(200_000), 16_384)]
#[case::in_small_pieces(Cut::Up(30), 7)]
#[case::header_by_header(Cut::Up(3000), 9)]
#[case::vectored_in_small_buffers(Cut::Vectored(40), 5000)]
#[case::vectored_in_large_buffers(Cut::Vectored(20_000), 70_000)]
fn frames_are_captured_and_long_payloads_are_not(#[case] cut: Cut, #[case] most_read: usize) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(mut recorder) = Recorder::start() else { return };
    for seed in 1..=4 {
        let mut random = Random(seed * 0x9e37_79b9);
        let small = matches!(cut, Cut::Up(30) | Cut::Vectored(40));
        let mut frames = conversation(20, if small { 3000 } else { 60_000 }, &mut random);
        frames.insert(0, PREFACE.to_vec());
        let bytes = frames.concat();
        let (client, server) = connected();
        let length = bytes.len();
        let reader = thread::spawn(move || {
            read(&server, length, most_read, &mut Random(seed));
            server
        });
        if matches!(cut, Cut::Frames) {
            write(&client, &bytes, &frames, cut, &mut random);
        } else {
            // The preface is recognised in one piece.
            (&client).write_all(&bytes[..24]).unwrap();
            write(&client, &bytes[24..], &[], cut, &mut random);
        }
        let server = reader.join().unwrap();
        let recorded = recorder.drain();
        let of = |way: usize| {
            recorded.values().map(|ways| &ways[way]).find(|segments| !segments.is_empty()).expect("it was recorded")
        };
        let (must, opened) = expected(&bytes, 24);
        let sent = of(1);
        let in_ring = check(sent, &bytes, &must);
        assert!(sent.iter().all(|(segment, _)| segment.flags & flag::FRAMES != 0));
        let first = sent[0].0.position;
        let mut ids: Vec<_> = Vec::new();
        for (segment, _) in sent {
            if opened.contains(&((segment.position - first) as usize)) {
                ids.push(segment.message.span_id);
            }
        }
        let distinct = ids.iter().collect::<std::collections::BTreeSet<_>>().len();
        if !small {
            assert_eq!(
                (ids.len(), distinct),
                (opened.len(), opened.len()),
                "each stream begins a segment with ids of its own"
            );
        }
        // A first read may be shorter than the preface.
        if most_read >= 5000 || of(0)[0].0.length >= 24 {
            check(of(0), &bytes, &must);
        }
        println!("{cut:?}: {length} bytes in {} segments, {in_ring} bytes in the ring", sent.len());
        drop((client, server));
        recorder.drain();
    }
    assert_eq!(recorder.lost_frames(), 0);
}

/// A connection that was open before it was recorded, and one on which HTTP/2 begins later.
#[test]
fn frames_are_followed_from_a_confirmed_position() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (client, server) = connected();
    let Some(mut recorder) = Recorder::start() else { return };
    let exchange = |bytes: &[u8]| {
        (&client).write_all(bytes).unwrap();
        read(&server, bytes.len(), bytes.len(), &mut Random(1));
    };
    let long = frame(kind::DATA, 0, 1, &body(5000));
    exchange(&long);
    let recorded = recorder.drain();
    let cookies: Vec<u64> = recorded.keys().copied().collect();
    let sender = *recorded.iter().find(|(_, ways)| !ways[1].is_empty()).unwrap().0;
    assert!(recorded[&sender][1].iter().all(|(segment, captured)| segment.length as usize == captured.len()));

    // The operation that is proposed first begins in the middle of a frame, the next one at its end.
    cookies.iter().for_each(|&cookie| recorder.control.follow_frames(cookie).unwrap());
    let mut wrong = None;
    exchange(&long[..2000]);
    exchange(&long[2000..]);
    for (segment, _) in &recorder.drain()[&sender][1] {
        assert_eq!(segment.flags & flag::FRAMES, 0);
        if segment.flags & flag::PROPOSES != 0 {
            wrong.get_or_insert(segment.position);
        }
    }
    assert!(wrong.is_some());

    thread::sleep(Duration::from_millis(150));
    exchange(&long[..2000]);
    exchange(&long[2000..]);
    thread::sleep(Duration::from_millis(150));
    let mut proposed = Vec::new();
    for _ in 0..3 {
        exchange(&long);
        proposed.extend(recorder.drain()[&sender][1].iter().filter_map(|(segment, captured)| {
            assert_eq!(segment.length as usize, captured.len(), "all is captured until the proposal is confirmed");
            (segment.flags & flag::PROPOSES != 0).then_some(segment.position)
        }));
    }
    let position = *proposed.last().expect("another operation is proposed after a while");
    recorder.control.confirm_frames(sender, true, position).unwrap();
    exchange(&[long.clone(), frame(kind::HEADERS, 5, 3, &body(20)), long.clone()].concat());
    let after = recorder.drain();
    let after = &after[&sender][1];
    assert!(after.iter().all(|(segment, _)| segment.flags & flag::FRAMES != 0));
    let lengths: Vec<_> = after.iter().map(|(segment, captured)| (segment.length, captured.len())).collect();
    let data = (HEADER + captured_of_payload(kind::DATA, 0, 5000)) as usize;
    assert_eq!(lengths, [(5009, data), (29 + 5009, 29 + data)]);
    assert_eq!(recorder.lost_frames(), 0);
}
