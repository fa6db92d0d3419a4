//! Sends requests over TLS when it is asked to: `/COUNT/IN_FLIGHT/keep|churn/FIRST`. Answers with the number of each and the
//! local port of its connection, which the server says in the header `peer-port`.
//!
//! Arguments: the port, the server's URL, and the library.

mod trusting;

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

/// Bytes of the responses, in turn.
const SIZES: [usize; 5] = [16, 1000, 20_000, 16, 100_000];

/// The library that sends the requests.
#[derive(Debug, Clone, Copy)]
enum Library {
    /// hyper and tokio-rustls below, rustls 0.23 with aws-lc-rs.
    Reqwest,
    /// rustls 0.23 with ring.
    Ureq,
    /// A blocking stream of rustls, with ring.
    Rustls021,
    Rustls022,
}

/// What sends requests, one at a time.
enum Client {
    Reqwest(tokio::runtime::Handle, reqwest::Client),
    Ureq(ureq::Agent),
    Stream { library: Library, address: String, keep: bool, connection: Option<BufReader<Box<dyn Stream>>> },
}

trait Stream: std::io::Read + Write + Send {}
impl<T: std::io::Read + Write + Send> Stream for T {}

impl Client {
    /// Sends one request. Returns the local port.
    fn get(&mut self, url: &str, size: usize) -> Result<String> {
        let (port, read) = match self {
            Self::Reqwest(runtime, client) => runtime.block_on(async {
                let response = client.get(url).send().await?.error_for_status()?;
                let port = response.headers()["peer-port"].to_str()?.to_owned();
                anyhow::Ok((port, response.bytes().await?.len()))
            })?,
            Self::Ureq(agent) => {
                let mut response = agent.get(url).call()?;
                let port = response.headers()["peer-port"].to_str()?.to_owned();
                (port, response.body_mut().read_to_vec()?.len())
            }
            Self::Stream { library, address, keep, connection } => {
                let mut stream = match connection.take() {
                    Some(stream) => stream,
                    None => BufReader::new(connect(*library, address)?),
                };
                let path = url.rsplit('/').next().unwrap_or_default();
                write!(stream.get_mut(), "GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
                stream.get_mut().flush()?;
                let answer = response(&mut stream)?;
                *connection = keep.then_some(stream);
                answer
            }
        };
        ensure!(read == size, "{read} bytes of {size}");
        Ok(port)
    }
}

/// Reads a response. Returns the header `peer-port` and the length of the body.
fn response(stream: &mut BufReader<Box<dyn Stream>>) -> Result<(String, usize)> {
    let (mut port, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("peer-port: ") {
            value.clone_into(&mut port);
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((port, length))
}

fn connect(library: Library, address: &str) -> Result<Box<dyn Stream>> {
    let socket = TcpStream::connect(address)?;
    Ok(match library {
        Library::Rustls021 => {
            let connection = rustls_021::ClientConnection::new(trusting::config_021(), "localhost".try_into()?)?;
            Box::new(rustls_021::StreamOwned::new(connection, socket))
        }
        Library::Rustls022 => {
            let connection = rustls_022::ClientConnection::new(trusting::config_022()?, "localhost".try_into()?)?;
            Box::new(rustls_022::StreamOwned::new(connection, socket))
        }
        Library::Reqwest | Library::Ureq => bail!("it has streams of its own"),
    })
}

/// Makes the clients of a load.
struct Clients {
    library: Library,
    url: String,
    runtime: tokio::runtime::Runtime,
    kept_reqwest: reqwest::Client,
    kept_ureq: ureq::Agent,
    kept_streams: Mutex<Vec<Client>>,
}

fn reqwest_client(keep: bool) -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    Ok(client.pool_max_idle_per_host(if keep { 50 } else { 0 }).build()?)
}

fn ureq_agent(keep: bool) -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
    let idle = if keep { 50 } else { 0 };
    ureq::Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .build()
        .into()
}

impl Clients {
    fn start(library: Library, url: String) -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build()?;
        Ok(Self {
            library,
            url,
            runtime,
            kept_reqwest: reqwest_client(true)?,
            kept_ureq: ureq_agent(true),
            kept_streams: Mutex::default(),
        })
    }

    fn client(&self, keep: bool) -> Result<Client> {
        Ok(match self.library {
            Library::Reqwest => {
                let client = if keep { self.kept_reqwest.clone() } else { reqwest_client(false)? };
                Client::Reqwest(self.runtime.handle().clone(), client)
            }
            Library::Ureq => Client::Ureq(if keep { self.kept_ureq.clone() } else { ureq_agent(false) }),
            library => {
                let kept = self.kept_streams.lock().expect("no thread panicked").pop().filter(|_| keep);
                let address = self.url.rsplit('/').next().unwrap_or_default().to_owned();
                kept.unwrap_or(Client::Stream { library, address, keep, connection: None })
            }
        })
    }

    fn run(self: &Arc<Self>, count: usize, in_flight: usize, keep: bool, first: usize) -> Result<Vec<String>> {
        let (sender, answers) = mpsc::channel();
        let next = Arc::new(Mutex::new(first..first + count));
        let workers: Vec<_> = (0..in_flight)
            .map(|_| {
                let (clients, sender, next) = (Arc::clone(self), sender.clone(), Arc::clone(&next));
                thread::spawn(move || -> Result<()> {
                    let mut client = clients.client(keep)?;
                    loop {
                        let Some(number) = next.lock().expect("no thread panicked").next() else { break };
                        let size = SIZES[number % SIZES.len()];
                        let port = client.get(&format!("{}/{number}?size={size}", clients.url), size)?;
                        sender.send(format!("{number} {port}\n"))?;
                    }
                    if keep {
                        clients.kept_streams.lock().expect("no thread panicked").push(client);
                    }
                    Ok(())
                })
            })
            .collect();
        drop(sender);
        for worker in workers {
            worker.join().expect("no thread panicked")?;
        }
        Ok(answers.iter().collect())
    }
}

fn answer(clients: &Arc<Clients>, stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = line.split(' ').nth(1).context("no request")?;
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let [count, in_flight, mode, first] = parts.as_slice() else { bail!("{path} is no load") };
    let body = clients.run(count.parse()?, in_flight.parse()?, *mode == "keep", first.parse()?)?.concat();
    let mut stream = stream;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [port, library, url] = arguments.as_slice() else { bail!("arguments: PORT LIBRARY URL") };
    let library = match library.as_str() {
        "reqwest" => Library::Reqwest,
        "ureq" => Library::Ureq,
        "rustls-0.21" => Library::Rustls021,
        "rustls-0.22" => Library::Rustls022,
        other => bail!("{other} is no library"),
    };
    let clients = Arc::new(Clients::start(library, url.clone())?);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("listening");
    for stream in listener.incoming() {
        let (clients, stream) = (Arc::clone(&clients), stream?);
        thread::spawn(move || answer(&clients, &stream).inspect_err(|error| eprintln!("{error:#}")));
    }
    Ok(())
}
