//! Through a real OpenTelemetry Collector, over each of its protocols: the whole shop, and no secrets.

use std::fs;

use anyhow::{Result, ensure};
use onlooker_tests::servers::{Collector, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::times::expect_curls_times;
use onlooker_tests::{Curl, Recording, Shop, World, record_skip};

#[test]
fn a_trace_of_the_whole_shop_arrives_over_grpc_and_over_http() -> Result<()> {
    if let Some(reason) = Collector::missing()? {
        record_skip(&reason);
        return Ok(());
    }
    for (protocol, workers) in [("grpc", Workers::Sync), ("http/protobuf", Workers::Threads(4))] {
        World::story(protocol, |world| {
            let collector = Collector::start(world)?;
            let shop = Shop::open(world, workers)?;
            let recording = Recording::through(&collector, world, protocol)?;
            let curls = [7, 7, 1].map(|number| Curl::run(world, &[&shop.product(number)]));
            let curls = curls.into_iter().collect::<Result<Vec<_>>>()?;
            let account = recording.finish(38)?;
            expect_curls_times(&account.spans, &curls)?;
            // A connection's first request also makes connections: how clients greet Redis is theirs to say.
            let but_greetings: Vec<_> = account
                .spans
                .into_iter()
                .filter(|span| !["HELLO", "CLIENT"].iter().any(|greeting| span.name.starts_with(greeting)))
                .collect();
            onlooker_tests::spans::expect_tree(
                &but_greetings,
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
    if let Some(reason) = Collector::missing()? {
        record_skip(&reason);
        return Ok(());
    }
    World::story("secrets", |world| {
        let collector = Collector::start(world)?;
        let (postgres, redis) = (Postgres::start(world)?, Redis::start(world)?);
        let app = Gunicorn::app("confidant")
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .env("API_TOKEN", format!("{SECRET}-environment"))
            .start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::through(&collector, world, "http/protobuf")?;
        let statements = postgres.asked()?;
        let url = nginx.url(&format!("/tell/me?password={SECRET}&{SECRET}-name-alone#{SECRET}-fragment"));
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
        // One of curl, two of nginx, one of the application; and both sides of what it asked the databases, but the question
        // how much that was.
        let asked = postgres.asked()? - statements + redis.asked()? - 1;
        recording.finish(4 + 2 * asked + 1)?;
        let told = fs::read_to_string(collector.file())?;
        let leaks: Vec<_> =
            told.match_indices(SECRET).map(|(at, _)| &told[at.saturating_sub(80)..(at + 40).min(told.len())]).collect();
        ensure!(leaks.is_empty(), "told:\n{}", leaks.join("\n"));
        Ok(())
    })
}
