//! Whose request is it, when a proxy makes several calls for each: again elsewhere, or for permission first?

use anyhow::{Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, Nginx};
use onlooker_tests::{Port, Recording, World};

/// An nginx that asks `first`, and `dawdle` when that fails, 10 requests in flight. Whoever is asked in vain sees `seen` of
/// each request: nothing, or one end more of a call.
fn asked_again(world: &World, what: &str, first: &str, seen: usize) -> Result<()> {
    let second = App::node("dawdle").start(world)?;
    let upstream = format!("upstream both {{ server {first} max_fails=0; server {} backup; }}", second.address());
    let site = "location / {
        proxy_pass http://both;
        proxy_http_version 1.1;
        proxy_set_header Connection '';
        proxy_read_timeout 500ms;
    }";
    let nginx = Nginx::site(site).http(&upstream).start(world)?;
    let recording = Recording::start(world)?;
    let load = Load::on(&nginx.address(), "/a").in_flight(10);
    let requests = load.run(1000..1200)?.answered.len();
    ensure!(requests == 200, "{requests} were answered");
    // The request, the call in vain as far as there was one, and both ends of the other.
    let account = recording.finish(requests * (3 + 2 * seen))?;
    let verdict = judge(&account.spans, &nginx.address(), |_| true);
    verdict.tell(&format!("nginx proxy, the first it asks {what} | 10")).is_of(requests, 1 + seen)?.is_right()?;
    Ok(())
}

#[test]
fn a_proxy_that_asks_another_when_the_first_hangs_up() -> Result<()> {
    World::story("hangs up", |world| {
        let first = App::python("unanswering").argument("hangs up").start(world)?;
        asked_again(world, "hangs up", &first.address(), 1)
    })
}

#[test]
fn a_proxy_that_asks_another_when_the_first_does_not_answer() -> Result<()> {
    World::story("does not answer", |world| {
        let first = App::python("unanswering").argument("waits").start(world)?;
        asked_again(world, "does not answer", &first.address(), 1)
    })
}

#[test]
fn a_proxy_that_asks_another_when_the_first_is_not_there() -> Result<()> {
    World::story("is not there", |world| {
        let nobody = Port::claim()?;
        asked_again(world, "is not there", &nobody.address(), 0)
    })
}

#[test]
fn a_proxy_that_asks_for_permission_first() -> Result<()> {
    World::story("permission", |world| {
        let (guard, behind) = (App::node("dawdle").start(world)?, App::node("dawdle").start(world)?);
        let upstreams = format!(
            "upstream guard {{ server {}; keepalive 10; }} upstream behind {{ server {}; keepalive 10; }}",
            guard.address(),
            behind.address()
        );
        let site = "proxy_http_version 1.1;
        proxy_set_header Connection '';
        location / { auth_request /permission; proxy_pass http://behind; }
        location = /permission { internal; proxy_pass http://guard$request_uri; }";
        let nginx = Nginx::site(site).http(&upstreams).start(world)?;
        let recording = Recording::start(world)?;
        let requests = Load::on(&nginx.address(), "/a").in_flight(50).run(1000..1600)?.answered.len();
        let account = recording.finish(5 * requests)?;
        let verdict = judge(&account.spans, &nginx.address(), |_| true);
        verdict.tell("nginx proxy that asks for permission first | 50").is_of(requests, 2)?.is_right()?;
        Ok(())
    })
}
