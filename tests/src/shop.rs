//! The services of the demo, which several tests use too: nginx, two Flask services, PostgreSQL and Redis.

use anyhow::Result;

use crate::servers::{Gunicorn, Nginx, Postgres, Redis, Workers};
use crate::tls::Certificate;
use crate::world::World;

const TABLES: &str = include_str!("../apps/python/inventory.sql");

/// nginx proxies to `storefront`, which calls `inventory`, which queries Redis and, on a cache miss, PostgreSQL.
///
/// `GET /products/7` returns 200, and so do 8 and 9; any other number returns 404.
#[derive(Debug)]
pub struct Shop {
    // Dropped in this order: callers before the services they call.
    /// The proxy in front.
    pub nginx: Nginx,
    /// The service that nginx proxies to.
    pub storefront: Gunicorn,
    /// The service behind it, which uses the databases.
    pub inventory: Gunicorn,
    /// The cache of inventory, with a lifetime of one minute.
    pub redis: Redis,
    /// The database of inventory.
    pub postgres: Postgres,
}

impl Shop {
    /// Starts all five in `world`, both Flask services with `workers`.
    pub fn start(world: &World, workers: Workers) -> Result<Self> {
        let postgres = Postgres::start(world)?;
        postgres.execute(TABLES)?;
        let redis = Redis::start(world)?;
        let inventory = Gunicorn::app("inventory")
            .workers(workers)
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .start(world)?;
        let storefront =
            Gunicorn::app("storefront").workers(workers).env("INVENTORY_URL", inventory.url("")?).start(world)?;
        let nginx = Nginx::proxy_to(&storefront.address()).start(world)?;
        Ok(Self { nginx, storefront, inventory, redis, postgres })
    }

    /// The same, with TLS on every connection.
    pub fn start_with_tls(world: &World, workers: Workers, certificate: &Certificate) -> Result<Self> {
        let dir = certificate.dir();
        let file = format!("{dir}/cert.pem");
        let postgres = Postgres::start_with_tls(world, &dir)?;
        postgres.execute(TABLES)?;
        let redis = Redis::start_with_tls(world, &dir)?;
        let inventory = Gunicorn::app("inventory")
            .workers(workers)
            .tls(&dir)
            .env("DATABASE_URL", format!("{}?sslmode=require", postgres.url()))
            .env("REDIS_URL", format!("rediss://127.0.0.1:{}/0?ssl_ca_certs={file}", redis.port()))
            .start(world)?;
        let storefront = Gunicorn::app("storefront")
            .workers(workers)
            .tls(&dir)
            .env("INVENTORY_URL", format!("https://127.0.0.1:{}", inventory.port()?))
            .env("REQUESTS_CA_BUNDLE", file)
            .start(world)?;
        let nginx = Nginx::tls_proxy_to(&storefront.address(), &dir).start(world)?;
        Ok(Self { nginx, storefront, inventory, redis, postgres })
    }

    /// The URL of a product at nginx.
    #[must_use]
    pub fn product(&self, number: u32) -> String {
        self.nginx.url(&format!("/products/{number}"))
    }
}
