//! The harness itself: servers start, answer, and leave nothing behind.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::World;
use onlooker_tests::servers::{Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::wait::{self, within};

#[test]
fn a_chain_of_real_servers_answers_and_leaves_nothing_behind() -> Result<()> {
    let (dir, cgroup) = World::story("chain", |world| {
        let postgres = Postgres::start(world)?;
        postgres.execute(include_str!("../apps/python/inventory.sql"))?;
        let redis = Redis::start(world)?;
        let inventory = Gunicorn::app("inventory")
            .workers(Workers::Sync)
            .unix_socket()
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .start(world)?;
        let behind = Nginx::proxy_to(&inventory.address()).named("warehouse").start(world)?;
        let storefront = Gunicorn::app("storefront").env("INVENTORY_URL", behind.url("")).start(world)?;
        let nginx = Nginx::proxy_to(&storefront.address()).start(world)?;

        let answer = world.curl(&[&nginx.url("/products/7")])?;
        ensure!(answer.trim() == r#"{"available":true,"name":"teapot"}"#, "{answer}");
        let status =
            world.curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &nginx.url("/products/1")])?;
        ensure!(status == "404", "{status}");
        Ok((world.dir().to_path_buf(), world.cgroup().path().to_path_buf()))
    })?;
    ensure!(!dir.exists() && !cgroup.exists(), "{} or {} is left", dir.display(), cgroup.display());
    Ok(())
}

#[test]
fn a_server_that_does_not_start_shows_its_log() {
    let error = World::story("broken", |world| Nginx::site("no_such_directive on;").start(world)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("unknown directive \"no_such_directive\""), "{text}");
}

#[test]
fn what_a_dropped_world_ran_is_gone_even_if_it_refuses_to_stop() -> Result<()> {
    let world = World::create()?;
    let mut stubborn = world.command("sh");
    world.run(stubborn.args(["-c", "(trap '' TERM INT HUP; exec sleep 1000) >/dev/null 2>&1 & echo $! > pid"]))?;
    let pid = std::fs::read_to_string(world.dir().join("pid"))?;
    let process = Path::new("/proc").join(pid.trim());
    ensure!(process.exists(), "it runs as long as the world does");
    drop(world);
    // Killed before the world was gone; an orphan is reaped by init, in its own time.
    wait::until(within(Duration::from_secs(10)), "end of the process", || Ok((!process.exists()).then_some(())))
}
