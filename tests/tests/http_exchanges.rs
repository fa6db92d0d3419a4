//! HTTP exchanges of every kind, each told as it was.

use anyhow::{Result, ensure};
use onlooker_tests::client::Connection;
use onlooker_tests::servers::{Gunicorn, Nginx, Workers};
use onlooker_tests::{Curl, Recording, World};

#[test]
fn a_request_through_a_proxy_is_a_chain_of_four_spans() -> Result<()> {
    for workers in [Workers::Sync, Workers::Threads(4)] {
        World::story("proxied", |world| {
            let app = Gunicorn::app("behaviours").workers(workers).start(world)?;
            let nginx = Nginx::proxy_to(&app.address()).start(world)?;
            let recording = Recording::start(world)?;
            let curl = Curl::run(world, &[&nginx.url("/items/7")])?;
            ensure!(curl.status() == 200);
            recording.wait_for(4)?;
            recording.finish()?.is_complete_with(4)?.is_tree(
                &[],
                "
                curl client GET /items/{id} -> 200
                  nginx server GET /items/{id} -> 200 by host
                    nginx client GET /items/{id} -> 200 by connect
                      behaviours server GET /items/{id} -> 200 by host
                ",
            )?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn errors_are_the_clients_or_the_servers() -> Result<()> {
    World::story("errors", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        for path in ["/status/404", "/status/503", "/boom"] {
            Curl::run(world, &[&app.url(path)?])?;
        }
        recording.wait_for(6)?;
        recording.finish()?.is_complete_with(6)?.is_tree(
            &[],
            "
            curl client GET /status/{id} -> 404 error=404
              behaviours server GET /status/{id} -> 404 by host
            curl client GET /status/{id} -> 503 error=503
              behaviours server GET /status/{id} -> 503 by host error=503
            curl client GET /boom -> 500 error=500
              behaviours server GET /boom -> 500 by host error=500
            ",
        )?;
        Ok(())
    })
}

#[test]
fn pipelined_requests_are_told_one_by_one() -> Result<()> {
    World::story("pipelined", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open(&nginx.address())?;
        let requests: String =
            (0..10).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).collect();
        client.send(requests)?;
        for _ in 0..10 {
            ensure!(client.response()?.status == 200);
        }
        let spans = recording.wait_for(10)?;
        let mut paths: Vec<_> = spans.iter().map(|span| span.get("url.path").to_owned()).collect();
        paths.sort();
        ensure!(paths == (0..10).map(|number| format!("/{number}")).collect::<Vec<_>>(), "{paths:?}");
        recording.finish()?.is_complete_with(10)?;
        Ok(())
    })
}
