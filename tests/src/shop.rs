//! The chain that the demo shows and many tests take: nginx, two Flask services, PostgreSQL and Redis.

use anyhow::Result;

use crate::servers::{Gunicorn, Nginx, Postgres, Redis, Workers};
use crate::world::World;

/// nginx proxies to `storefront`, which asks `inventory`, which asks Redis and, for what is not there, PostgreSQL.
///
/// `GET /products/7` answers 200, and so do 8 and 9; any other number answers 404.
#[derive(Debug)]
pub struct Shop {
    // Stopped in this order: who asks before who answers.
    /// The proxy in front.
    pub nginx: Nginx,
    /// The service that nginx proxies to.
    pub storefront: Gunicorn,
    /// The service behind it, which has the databases.
    pub inventory: Gunicorn,
    /// What inventory remembers for a minute.
    pub redis: Redis,
    /// What inventory counts.
    pub postgres: Postgres,
}

impl Shop {
    /// Starts all five in `world`, both services with `workers`.
    pub fn open(world: &World, workers: Workers) -> Result<Self> {
        let postgres = Postgres::start(world)?;
        postgres.execute(include_str!("../apps/python/inventory.sql"))?;
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

    /// The URL of a product, at nginx.
    #[must_use]
    pub fn product(&self, number: u32) -> String {
        self.nginx.url(&format!("/products/{number}"))
    }
}
