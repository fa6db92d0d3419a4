//! What is fed to the parsers: the bytes of both directions, as the programs write them.

use onlooker_protocols::{Direction, Protocol};

/// A round that is repeated on a connection.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) protocol: Protocol,
    pub(super) name: &'static str,
    /// What passes in a round.
    pub(super) what: &'static str,
    /// What comes before the first round.
    pub(super) opening: Vec<(Direction, Vec<u8>)>,
    pub(super) round: Vec<(Direction, Vec<u8>)>,
    /// How many exchanges a round is.
    pub(super) exchanges: usize,
}

impl Conversation {
    pub(super) fn bytes(&self) -> usize {
        self.round.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// One request with its response, as short as they are in practice.
pub(super) fn small(protocol: Protocol) -> Conversation {
    let (what, round) = match protocol {
        Protocol::Http1 => ("a GET", exchange(HTTP_REQUEST, HTTP_RESPONSE)),
        Protocol::Postgres => {
            let request = query("SELECT name, price FROM products WHERE id = 7");
            ("a SELECT of one row", exchange(&request, &rows(1)))
        }
        Protocol::Redis => ("a GET", exchange(b"*2\r\n$3\r\nGET\r\n$9\r\nproduct:7\r\n", b"$5\r\n12.50\r\n")),
    };
    conversation(protocol, what, round, 1)
}

/// What takes many bytes.
pub(super) fn large(protocol: Protocol) -> Conversation {
    match protocol {
        Protocol::Http1 => {
            let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..4 {
                response.extend_from_slice(b"400\r\n");
                response.resize(response.len() + 0x400, b'x');
                response.extend_from_slice(b"\r\n");
            }
            response.extend_from_slice(b"0\r\n\r\n");
            conversation(protocol, "a browser's GET, 4 KiB in chunks", exchange(BROWSER_REQUEST, &response), 1)
        }
        Protocol::Postgres => {
            let request = query(
                "SELECT p.id, p.name, p.price, s.count FROM products p JOIN stock s ON s.product = p.id \
                 WHERE p.price < 12.50 AND p.name LIKE 'tea%' ORDER BY p.name LIMIT 100",
            );
            conversation(protocol, "a SELECT of 100 rows", exchange(&request, &rows(100)), 1)
        }
        Protocol::Redis => {
            let (mut request, mut response) = (Vec::new(), Vec::new());
            for _ in 0..PIPELINED {
                request.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$9\r\nproduct:7\r\n$64\r\n");
                request.resize(request.len() + 64, b'x');
                request.extend_from_slice(b"\r\n");
                response.extend_from_slice(b"+OK\r\n");
            }
            conversation(protocol, "a pipeline of 50 SETs", exchange(&request, &response), PIPELINED)
        }
    }
}

const PIPELINED: usize = 50;

const HTTP_REQUEST: &[u8] = b"GET /products/7 HTTP/1.1\r\nHost: 127.0.0.1:20001\r\n\r\n";
const HTTP_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\nhello, world";
const BROWSER_REQUEST: &[u8] = b"GET /products/7?colour=green&size=large HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example.com/products\r\n\
    Cookie: session=4f1c2a9be07d4c1f8a3b5d6e7f809112; theme=dark; consent=yes; visits=12\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\nConnection: keep-alive\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

fn conversation(
    protocol: Protocol,
    what: &'static str,
    round: Vec<(Direction, Vec<u8>)>,
    exchanges: usize,
) -> Conversation {
    let (name, opening) = match protocol {
        Protocol::Http1 => ("HTTP/1", Vec::new()),
        Protocol::Postgres => ("PostgreSQL", exchange(&startup(), &welcome())),
        Protocol::Redis => ("Redis", Vec::new()),
    };
    Conversation { protocol, name, what, opening, round, exchanges }
}

fn exchange(request: &[u8], response: &[u8]) -> Vec<(Direction, Vec<u8>)> {
    vec![(Direction::ToServer, request.to_vec()), (Direction::ToClient, response.to_vec())]
}

// https://www.postgresql.org/docs/current/protocol-message-formats.html

/// A message: its type, its length with the length itself, its content.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&(content.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(content);
    message
}

fn startup() -> Vec<u8> {
    let content = b"\0\x03\0\0user\0shop\0database\0shop\0\0";
    let mut startup = (content.len() as u32 + 4).to_be_bytes().to_vec();
    startup.extend_from_slice(content);
    startup
}

/// AuthenticationOk, ReadyForQuery.
fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// RowDescription of two columns, `count` times DataRow, CommandComplete, ReadyForQuery.
fn rows(count: usize) -> Vec<u8> {
    let mut description = vec![0, 2];
    for column in ["name", "price"] {
        description.extend_from_slice(column.as_bytes());
        description.extend_from_slice(&[0; 19]);
    }
    let row = message(b'D', b"\0\x02\0\0\0\x09green tea\0\0\0\x0512.50");
    let complete = message(b'C', format!("SELECT {count}\0").as_bytes());
    [message(b'T', &description), row.repeat(count), complete, message(b'Z', b"I")].concat()
}
