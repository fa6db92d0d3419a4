//! Exports through a real OpenTelemetry Collector over each of its protocols. No secret may arrive there.

use std::fs;

use anyhow::{Result, ensure};
use onlooker_tests::servers::{Collector, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::times::expect_curls_times;
use onlooker_tests::{Curl, Recording, Shop, World, record_skip};

#[test]
fn the_shops_trace_arrives_over_grpc_and_over_http() -> Result<()> {
    if let Some(reason) = Collector::skip_reason()? {
        record_skip(&reason);
        return Ok(());
    }
    for (protocol, workers) in [("grpc", Workers::Sync), ("http/protobuf", Workers::Threads(4))] {
        World::story(protocol, |world| {
            let collector = Collector::start(world)?;
            let shop = Shop::start(world, workers)?;
            let recording = Recording::start_exporting(&collector, world, protocol)?;
            let curls = [7, 7, 1].map(|number| Curl::run(world, &[&shop.product(number)]));
            let curls = curls.into_iter().collect::<Result<Vec<_>>>()?;
            let outcome = recording.finish(38)?;
            expect_curls_times(&outcome.spans, &curls)?;
            // The first request also opens connections. What clients send to greet Redis depends on their version.
            let without_greetings: Vec<_> = outcome
                .spans
                .into_iter()
                .filter(|span| !["HELLO", "CLIENT"].iter().any(|greeting| span.name.starts_with(greeting)))
                .collect();
            onlooker_tests::spans::expect_tree(
                &without_greetings,
                &["db.query.text", "db.response.returned_rows"],
                "
                curl client GET /products/{id} -> 200
                  nginx server GET /products/{id} -> 200 by host
                    nginx client GET /products/{id} -> 200 by connect
                      storefront server GET /products/{id} -> 200 by host
                        storefront client GET /stock/{id} -> 200 by thread
                          inventory server GET /stock/{id} -> 200 by host
                            inventory client GET by thread db.query.text=GET ?
                              redis-server server GET by host db.query.text=GET ?
                            inventory client SELECT products by thread db.query.text=SELECT name, pieces FROM products WHERE id = $1 db.response.returned_rows=1
                              postgres server SELECT products by host db.query.text=SELECT name, pieces FROM products WHERE id = $1 db.response.returned_rows=1
                            inventory client SET by thread db.query.text=SET ? ? ? ?
                              redis-server server SET by host db.query.text=SET ? ? ? ?
                curl client GET /products/{id} -> 200
                  nginx server GET /products/{id} -> 200 by host
                    nginx client GET /products/{id} -> 200 by *
                      storefront server GET /products/{id} -> 200 by host
                        storefront client GET /stock/{id} -> 200 by thread
                          inventory server GET /stock/{id} -> 200 by host
                            inventory client GET by thread db.query.text=GET ?
                              redis-server server GET by host db.query.text=GET ?
                curl client GET /products/{id} -> 404 error=404
                  nginx server GET /products/{id} -> 404 by host
                    nginx client GET /products/{id} -> 404 by *
                      storefront server GET /products/{id} -> 404 by host
                        storefront client GET /stock/{id} -> 404 by thread error=404
                          inventory server GET /stock/{id} -> 404 by host
                            inventory client GET by thread db.query.text=GET ?
                              redis-server server GET by host db.query.text=GET ?
                            inventory client SELECT products by thread db.query.text=SELECT name, pieces FROM products WHERE id = $1 db.response.returned_rows=0
                              postgres server SELECT products by host db.query.text=SELECT name, pieces FROM products WHERE id = $1 db.response.returned_rows=0
                ",
            )
        })?;
    }
    Ok(())
}

#[test]
fn no_secret_leaves_the_host() -> Result<()> {
    const SECRET: &str = "hunter2";
    if let Some(reason) = Collector::skip_reason()? {
        record_skip(&reason);
        return Ok(());
    }
    World::story("secrets", |world| {
        let collector = Collector::start(world)?;
        let (postgres, redis) = (Postgres::start(world)?, Redis::start(world)?);
        let app = Gunicorn::app("with_secrets")
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .env("API_TOKEN", format!("{SECRET}-environment"))
            .start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start_exporting(&collector, world, "http/protobuf")?;
        let statements = postgres.statement_count()?;
        let url = nginx.url(&format!("/store/me?password={SECRET}&{SECRET}-name-alone#{SECRET}-fragment"));
        let curl = Curl::run(
            world,
            &[
                "--user",
                &format!("{SECRET}-user:{SECRET}-basic"),
                "--cookie",
                &format!("session={SECRET}-cookie"),
                "--header",
                &format!("X-Api-Key: {SECRET}-header"),
                "--header",
                &format!("Referer: http://elsewhere.test/?token={SECRET}-referer"),
                "--data",
                &format!("{SECRET}-body"),
                &url,
            ],
        )?;
        ensure!(curl.status() == 200 && curl.body.starts_with(format!("{SECRET}-response").as_bytes()), "{curl:?}");
        // One span of curl, two of nginx, one of the application. Both ends of what the databases received, except for our
        // own question to Redis, which has one end.
        let received = postgres.statement_count()? - statements + redis.command_count()? - 1;
        recording.finish(4 + 2 * received + 1)?;
        let exported = fs::read_to_string(collector.file())?;
        let context = |at: usize| &exported[at.saturating_sub(80)..(at + 40).min(exported.len())];
        let leaks: Vec<_> = exported.match_indices(SECRET).map(|(at, _)| context(at)).collect();
        ensure!(leaks.is_empty(), "exported:\n{}", leaks.join("\n"));
        Ok(())
    })
}
