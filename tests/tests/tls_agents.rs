//! TLS connections are not disturbed by agents that come and go, or that are killed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use onlooker_tests::servers::App;
use onlooker_tests::tls::Certificate;
use onlooker_tests::tls_servers::{AIOHTTP, NGINX, TlsServer};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Recording, World};
use rstest::rstest;

/// The load: connections a second, and for how many seconds.
const RATE: u32 = 50;
const SECONDS: u32 = 20;

/// A busy machine may be behind its rate.
const DONE_WITHIN: Duration = Duration::from_secs(90);

/// An ended agent is gone, and a new one has attached, within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every second agent is killed. A request that fails makes the load fail.
#[rstest]
#[case::on_sockets(NGINX)]
#[case::on_memory(AIOHTTP)]
fn agents_come_and_go_under_load(#[case] server: &TlsServer) -> Result<()> {
    World::story("tls_agents", |world| {
        let certificate = Certificate::make(world)?;
        let server = server.start(world, &certificate)?;
        let go = world.dir().join("go");
        let mut load = App::python("tls_churn")
            .argument(&server.port.to_string())
            .argument(&RATE.to_string())
            .argument(&SECONDS.to_string())
            .argument(&go.display().to_string())
            .argument(&certificate.dir())
            .start(world)?;
        fs::write(&go, "")?;
        let began = Instant::now();
        let mut agents = 0;
        while began.elapsed() < Duration::from_secs(SECONDS.into()) {
            let mut recording = Recording::start(world)?;
            if agents % 2 == 0 {
                // The load goes on, so what is recorded at the end is not known.
                recording.agent().finish()?;
            } else {
                recording.agent().process().signal(libc::SIGKILL)?;
                recording.agent().process().wait_for_exit(within(PATIENCE))?;
            }
            agents += 1;
        }
        let process = load.process();
        wait::until(within(DONE_WITHIN), "end of the connections", || {
            let log = process.log()?;
            let failed = log.lines().find(|line| line.starts_with("failed "));
            ensure!(failed.is_none(), "a connection {}", failed.unwrap_or_default());
            Ok(log.contains("done ").then_some(()))
        })?;
        ensure!(agents >= 2, "{agents} agents came and went");
        Ok(())
    })
}
