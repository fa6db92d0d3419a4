//! Answers each call of `shop.Cart` with its request, by tonic. Arguments: port.

use std::convert::Infallible;
use std::env;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{self, Poll};

use anyhow::{Context as _, Result};
use http2::Raw;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tower_service::Service;

struct Echo;

impl UnaryService<Vec<u8>> for Echo {
    type Response = Vec<u8>;
    type Future = Ready<Result<Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

#[derive(Clone)]
struct Cart;

impl NamedService for Cart {
    const NAME: &'static str = "shop.Cart";
}

impl Service<http::Request<Body>> for Cart {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(Raw).unary(Echo, request).await) })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let port = env::args().nth(1).context("no port")?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening");
    Server::builder().add_service(Cart).serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}
