//! Sends GETs of `/items/N` by reqwest. See [`http2::run`] for its arguments.

use anyhow::Result;
use reqwest::Client;

/// Each client opens one connection.
#[derive(Clone)]
struct Connection {
    url: String,
    client: Client,
}

impl http2::Connection for Connection {
    async fn open(url: &str) -> Result<Self> {
        let client = Client::builder().http2_prior_knowledge().no_proxy().build()?;
        Ok(Self { url: url.to_owned(), client })
    }

    async fn request(&mut self, number: usize) -> Result<()> {
        let response = self.client.get(format!("{}/items/{number}", self.url)).send().await?;
        response.error_for_status()?.bytes().await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    http2::run::<Connection>().await
}
