//! Frames of HTTP/2, and what is reported of them.

use onlooker_protocols::facts::{Http, Rpc};
use onlooker_protocols::{Direction, End, Exchange, Facts, Finding, Moment, Parser, http2};

use super::{Outcome, Talk, parser};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub fn play(talk: &Talk) -> Outcome {
    talk.play(parser(&http2::SPEC, true))
}

pub fn join_late(talk: &Talk) -> Outcome {
    talk.play(parser(&http2::SPEC, false))
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let [_, l0, l1, l2] = (payload.len() as u32).to_be_bytes();
    [&[l0, l1, l2, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

pub fn data(flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0, flags, stream, payload)
}

pub fn headers(flags: u8, stream: u32, block: impl AsRef<[u8]>) -> Vec<u8> {
    frame(1, flags | END_HEADERS, stream, block)
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, code.to_be_bytes())
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(4, 0, 0, payload)
}

pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(7, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// Fields without Huffman codes that are not inserted into the dynamic table.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0, name, value)).collect()
}

/// Fields that are inserted into the dynamic table.
pub fn inserted(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0x40, name, value)).collect()
}

fn literal(kind: u8, name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    [&[kind][..], &text(name), &text(value)].concat()
}

/// `:method: GET`, `:scheme: http`, and these.
pub fn get(path: &str) -> Vec<u8> {
    [&[0x82, 0x86][..], &fields(&[(":path", path), (":authority", "shop:8080")])].concat()
}

/// `:method: POST`, `:scheme: http`, and these.
pub fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fixed = [(":path", path), (":authority", "shop:8080"), ("content-type", "application/grpc")];
    [&[0x83, 0x86][..], &fields(&fixed), &fields(more)].concat()
}

pub fn status(code: &str) -> Vec<u8> {
    fields(&[(":status", code)])
}

/// A message of gRPC.
pub fn message(text: &str) -> Vec<u8> {
    [&[0][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

/// The connection's beginning: the preface and the settings of both ends.
pub fn greeting() -> Talk {
    Talk::new().request([PREFACE, &settings(&[(3, 100)])].concat()).response(settings(&[(3, 250)]))
}

pub fn http(exchange: &Exchange) -> &Http {
    match &exchange.facts {
        Facts::Http(http) => http,
        other => panic!("not HTTP: {other:?}"),
    }
}

pub fn rpc(exchange: &Exchange) -> &Rpc {
    match &exchange.facts {
        Facts::Rpc(rpc) => rpc,
        other => panic!("no call: {other:?}"),
    }
}

/// One line for one exchange: `GET path | 200 | 3 > 5 | end`, or `system method | code | messages | end`. What is unknown
/// is a question mark, and usual ends are left out.
pub fn line(exchange: &Exchange) -> String {
    let or_unknown = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
    let text = |text: &str| if text.is_empty() { "?".to_owned() } else { text.to_owned() };
    let (what, status, counts) = match &exchange.facts {
        Facts::Http(http) => (
            format!("{} {}", text(&http.method), text(&http.path)),
            http.status.map_or("?".to_owned(), |status| status.to_string()),
            [http.request_body, http.response_body],
        ),
        Facts::Rpc(rpc) => (
            format!("{} {}", rpc.system, text(&rpc.method)),
            rpc.status.as_ref().map_or("?".to_owned(), |status| text(&status.code)),
            [rpc.request_messages, rpc.response_messages],
        ),
        other => panic!("{other:?}"),
    };
    let [sent, received] = counts.map(or_unknown);
    let end = match exchange.end {
        End::Complete => String::new(),
        End::Unseen => " | unseen".to_owned(),
        End::Reset(reset, _) => format!(" | {} by {:?}", reset.code, reset.by),
        End::Closed(why, _) => format!(" | {why:?}"),
    };
    format!("{what} | {status} | {sent} > {received}{end}")
}

pub fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.exchanges().into_iter().map(line).collect()
}

/// Plays one piece after another, each an operation of its own, as the kernel reports them.
#[derive(Debug)]
pub struct Stepwise {
    pub parser: Box<dyn Parser>,
    pub found: Vec<Finding>,
    now: Moment,
    positions: [u64; 2],
}

impl Stepwise {
    pub fn new(from_start: bool) -> Self {
        Self {
            parser: parser(&http2::SPEC, from_start),
            found: Vec::new(),
            now: Moment { nanos: 1_000_000, position: 0, run: 0 },
            positions: [0; 2],
        }
    }

    pub fn bytes(&mut self, direction: Direction, bytes: &[u8]) {
        let at = self.at(direction, bytes.len() as u64);
        self.parser.bytes(direction, bytes, at, &mut self.found).expect("frames");
    }

    /// An operation of which only the beginning was captured.
    pub fn bytes_then_hole(&mut self, direction: Direction, bytes: &[u8], missing: u64) {
        let at = self.at(direction, bytes.len() as u64 + missing);
        self.parser.bytes(direction, bytes, at, &mut self.found).expect("frames");
        self.parser.gap(direction, missing, at.advanced(bytes.len() as u64), &mut self.found).expect("frames");
    }

    fn at(&mut self, direction: Direction, length: u64) -> Moment {
        self.now.nanos += 1_000_000;
        self.now.run += 1;
        let position = &mut self.positions[direction as usize];
        let at = Moment { position: *position, ..self.now };
        *position += length;
        at
    }
}
