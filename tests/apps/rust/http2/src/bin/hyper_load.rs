//! Sends GETs of `/items/N` by hyper. See [`http2::run`] for its arguments.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

#[derive(Clone)]
struct Connection {
    url: String,
    sender: SendRequest<Empty<Bytes>>,
}

impl http2::Connection for Connection {
    async fn open(url: &str) -> Result<Self> {
        let uri: Uri = url.parse()?;
        let stream = TcpStream::connect(uri.authority().context("no address")?.as_str()).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { url: url.to_owned(), sender })
    }

    async fn request(&mut self, number: usize) -> Result<()> {
        let request = Request::get(format!("{}/items/{number}", self.url)).body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        ensure!(response.status() == 200, "status {}", response.status());
        response.into_body().collect().await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    http2::run::<Connection>().await
}
