//! Answers over TLS with as many bytes as the query's `size` says: axum on tokio-rustls.
//!
//! Arguments: the port, a folder with `cert.pem` and `key.pem`, and `ring` or `aws-lc-rs`.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::Query;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use rustls::crypto::{aws_lc_rs, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

#[derive(Deserialize)]
struct Asked {
    size: usize,
}

/// Connections after their handshake.
struct Accepted(mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>);

impl Accepted {
    fn start(listener: TcpListener, acceptor: TlsAcceptor) -> Self {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = sender.send((stream, peer)).await;
                    }
                });
            }
        });
        Self(receiver)
    }
}

impl Listener for Accepted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.0.recv().await.expect("the task that accepts does not end")
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Clone)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Accepted>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Accepted>) -> Self {
        Self(*stream.remote_addr())
    }
}

async fn serve(ConnectInfo(peer): ConnectInfo<Peer>, Query(asked): Query<Asked>) -> ([(&'static str, String); 1], Vec<u8>) {
    ([("peer-port", peer.0.port().to_string())], vec![b'x'; asked.size])
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [port, dir, provider] = arguments.as_slice() else { anyhow::bail!("arguments: PORT FOLDER PROVIDER") };
    let provider = if provider == "ring" { ring::default_provider() } else { aws_lc_rs::default_provider() };
    let chain = CertificateDer::pem_file_iter(Path::new(dir).join("cert.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(Path::new(dir).join("key.pem"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.context("the port is taken")?;
    let accepted = Accepted::start(listener, TlsAcceptor::from(Arc::new(config)));
    let router = Router::new().route("/{number}", axum::routing::get(serve));
    println!("listening");
    axum::serve(accepted, router.into_make_service_with_connect_info::<Peer>()).await?;
    Ok(())
}
