//! Whose request is it, when a call fails and is made again elsewhere?

use anyhow::Result;
use onlooker_tests::load::Load;
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, Nginx};
use onlooker_tests::{Recording, World};

#[test]
fn a_proxy_that_asks_another_when_the_first_hangs_up() -> Result<()> {
    World::story("asked again", |world| {
        let (first, second) = (App::python("hanging_up").start(world)?, App::node("dawdle").start(world)?);
        let upstream =
            format!("upstream both {{ server {} max_fails=0; server {} backup; }}", first.address(), second.address());
        let site = "location / { proxy_pass http://both; proxy_http_version 1.1; proxy_set_header Connection ''; }";
        let nginx = Nginx::site(site).http(&upstream).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&nginx.address(), "/a").in_flight(10);
        let requests = load.run(1000..1300)?.answered.len();
        // Each asks both, and both ends of each call are watched.
        let account = recording.finish(requests + 4 * requests)?;
        let verdict = judge(&account.spans, &nginx.address(), |_| true);
        verdict.tell("nginx proxy that asks again elsewhere | 10").is_of(requests, 2)?.is_right()?;
        Ok(())
    })
}
