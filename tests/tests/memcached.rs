//! memcached: text, binary and pipelined clients, with the server's side. Keys and values stay on the host.

use anyhow::{Result, ensure};
use onlooker_tests::servers::{Gunicorn, Memcached};
use onlooker_tests::spans::expect_tree;
use onlooker_tests::{Recording, World};

#[test]
fn both_sides_of_text_and_binary_commands_are_reported() -> Result<()> {
    World::story("memcached", |world| {
        let memcached = Memcached::start(world)?;
        let app = Gunicorn::app("caching").env("MEMCACHED", memcached.address()).start(world)?;
        let recording = Recording::start(world)?;
        for path in ["/text", "/binary"] {
            ensure!(world.curl(&[&app.url(path)?])? == "done");
        }
        let outcome = recording.finish(2 * 2 + 2 * 5 + 2 * 4)?;
        ensure!(!format!("{:?}", outcome.spans).contains("secret"), "a key or value was exported");
        expect_tree(
            &outcome.spans,
            &["db.system.name", "db.operation.batch.size", "db.response.status_code"],
            "
            curl client GET /text -> 200
              caching server GET /text -> 200 by host
                caching client set by thread db.system.name=memcached
                  memcached server set by host db.system.name=memcached
                caching client get by thread db.system.name=memcached
                  memcached server get by host db.system.name=memcached
                caching client get by thread db.system.name=memcached db.operation.batch.size=2
                  memcached server get by host db.system.name=memcached db.operation.batch.size=2
                caching client add by thread db.system.name=memcached
                  memcached server add by host db.system.name=memcached
                caching client incr by thread error=CLIENT_ERROR db.system.name=memcached db.response.status_code=CLIENT_ERROR
                  memcached server incr by host error=CLIENT_ERROR db.system.name=memcached db.response.status_code=CLIENT_ERROR
            curl client GET /binary -> 200
              caching server GET /binary -> 200 by host
                caching client set by thread db.system.name=memcached
                  memcached server set by host db.system.name=memcached
                caching client get by thread db.system.name=memcached
                  memcached server get by host db.system.name=memcached
                caching client get by thread db.system.name=memcached
                  memcached server get by host db.system.name=memcached
                caching client delete by thread db.system.name=memcached
                  memcached server delete by host db.system.name=memcached
            ",
        )
    })
}

#[test]
fn pipelined_requests_are_all_reported() -> Result<()> {
    World::story("memcached-pipeline", |world| {
        let memcached = Memcached::start(world)?;
        let app = Gunicorn::app("caching").env("MEMCACHED", memcached.address()).start(world)?;
        let recording = Recording::start(world)?;
        ensure!(world.curl(&[&app.url("/pipeline/100")?])? == "done");
        let outcome = recording.finish(2 + 2 * 100)?;
        let commands = outcome.spans.iter().filter(|span| span.get("db.system.name") == "memcached").count();
        ensure!(commands == 200, "{commands} of 200 are spans");
        Ok(())
    })
}
