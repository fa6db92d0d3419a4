//! Tests of the test library: servers start and respond, and leave nothing behind.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::World;
use onlooker_tests::servers::{Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::wait::{self, within};

#[test]
fn a_chain_of_real_servers_responds_and_leaves_nothing_behind() -> Result<()> {
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
        let behind = Nginx::proxy_to(&inventory.address()).named("nginx-behind").start(world)?;
        let storefront = Gunicorn::app("storefront").env("INVENTORY_URL", behind.url("")).start(world)?;
        let nginx = Nginx::proxy_to(&storefront.address()).start(world)?;

        let product = world.curl(&[&nginx.url("/products/7")])?;
        ensure!(product.trim() == r#"{"available":true,"name":"teapot"}"#, "{product}");
        let status =
            world.curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &nginx.url("/products/1")])?;
        ensure!(status == "404", "{status}");
        Ok((world.dir().to_path_buf(), world.cgroup().path().to_path_buf()))
    })?;
    ensure!(!dir.exists() && !cgroup.exists(), "{} or {} still exists", dir.display(), cgroup.display());
    Ok(())
}

#[test]
fn the_log_of_a_server_that_fails_to_start_is_shown() {
    let error = World::story("broken", |world| Nginx::site("no_such_directive on;").start(world)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("unknown directive \"no_such_directive\""), "{text}");
}

#[test]
fn dropping_a_world_kills_programs_that_refuse_to_stop() -> Result<()> {
    let world = World::create()?;
    let mut stubborn = world.command("sh");
    world.run(stubborn.args(["-c", "(trap '' TERM INT HUP; exec sleep 1000) >/dev/null 2>&1 & echo $! > pid"]))?;
    let pid = std::fs::read_to_string(world.dir().join("pid"))?;
    let process = Path::new("/proc").join(pid.trim());
    ensure!(process.exists(), "the program ended before the world was dropped");
    drop(world);
    // It was killed before `drop` returned, but init reaps the orphan later.
    wait::until(within(Duration::from_secs(10)), "end of the process", || Ok((!process.exists()).then_some(())))
}
