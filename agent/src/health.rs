//! `/healthz` and `/readyz`, for those who watch over the agent.
//!
//! The event loop that reads the ring answers. So an answer shows that the agent is not stuck. `/readyz` is 503 until the agent records
//! everything that it selected at the start, as the line `ready` says.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How many connections are served at a time. Others wait in the listen queue.
const CONNECTIONS: usize = 16;
/// How long one connection may take.
const CONNECTION_TIME: Duration = Duration::from_secs(5);

/// Where to listen: a port on loopback, or an address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthAddress(SocketAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a port, or an address with a port such as 10.0.0.7:13133 or [::1]:13133")]
pub struct NoAddress;

impl FromStr for HealthAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let loopback = || Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), text.parse().ok()?));
        // A manifest joins `$(POD_IP)` and a port, whatever kind of address that is.
        let joined = || {
            let (address, port) = text.rsplit_once(':')?;
            Some(SocketAddr::new(address.parse::<Ipv6Addr>().ok()?.into(), port.parse().ok()?))
        };
        text.parse().ok().or_else(loopback).or_else(joined).map(Self).ok_or(NoAddress)
    }
}

impl fmt::Display for HealthAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Answers until the event loop ends.
#[derive(Debug)]
pub struct Health {
    is_ready: Arc<AtomicBool>,
    address: SocketAddr,
}

impl Health {
    /// Begins to listen. To be called in a tokio runtime.
    pub fn serve(address: HealthAddress) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address.0)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let health = Self { is_ready: Arc::default(), address: listener.local_addr()? };
        tokio::spawn(accept(listener, Arc::clone(&health.is_ready)));
        Ok(health)
    }

    /// Says that the agent is ready.
    pub fn ready(&self) {
        self.is_ready.store(true, Relaxed);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, is_ready: Arc<AtomicBool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, for example.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let is_ready = Arc::clone(&is_ready);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let answer = answer(&request, is_ready.load(Relaxed));
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            // Whatever went wrong, the other side notices.
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, is_ready: bool) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") if is_ready => (StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        (_, "/healthz" | "/readyz") => (StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => (StatusCode::NOT_FOUND, ""),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[rstest]
    #[case::port("13133", Some("127.0.0.1:13133"))]
    #[case::address("0.0.0.0:80", Some("0.0.0.0:80"))]
    #[case::v6("[::1]:80", Some("[::1]:80"))]
    #[case::v6_without_brackets("fd00::7:13133", Some("[fd00::7]:13133"))]
    #[case::no_port("10.0.0.7", None)]
    #[case::name("localhost:80", None)]
    #[case::large("65536", None)]
    fn a_port_alone_is_on_loopback(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(text.parse::<HealthAddress>().ok().map(|address| address.to_string()).as_deref(), expected);
    }

    async fn status(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn the_agent_is_healthy_before_it_is_ready() {
        let health = Health::serve("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = health.address();
        assert_eq!(status(address, "GET /healthz").await, "200");
        assert_eq!(status(address, "GET /readyz").await, "503");
        health.ready();
        assert_eq!(status(address, "GET /readyz").await, "200");
        assert_eq!(status(address, "POST /readyz").await, "405");
        assert_eq!(status(address, "GET /").await, "404");
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_keep_others_out() {
        let health = Health::serve("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(health.address()).await.unwrap());
        }
        let patience = CONNECTION_TIME + Duration::from_secs(5);
        let answered = tokio::time::timeout(patience, status(health.address(), "GET /healthz")).await;
        assert_eq!(answered.as_deref(), Ok("200"));
    }
}
