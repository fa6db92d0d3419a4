//! Makes unary calls of `shop.Cart/Get` by tonic. See [`http2::run`] for its arguments.

use anyhow::{Result, ensure};
use http::uri::PathAndQuery;
use http2::Raw;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

#[derive(Clone)]
struct Connection(Grpc<Channel>);

impl http2::Connection for Connection {
    async fn open(url: &str) -> Result<Self> {
        Ok(Self(Grpc::new(Endpoint::from_shared(url.to_owned())?.connect().await?)))
    }

    async fn request(&mut self, number: usize) -> Result<()> {
        let message = number.to_string().into_bytes();
        self.0.ready().await?;
        let path = PathAndQuery::from_static("/shop.Cart/Get");
        let answer = self.0.unary(Request::new(message.clone()), path, Raw).await?;
        ensure!(!answer.get_ref().is_empty(), "an empty answer");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    http2::run::<Connection>().await
}
