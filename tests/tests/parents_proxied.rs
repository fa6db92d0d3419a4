//! Parents under load when a proxy makes several calls per request: a retry with another server, or an authorization first.

use anyhow::{Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, Nginx};
use onlooker_tests::{Port, Recording, World};

/// Runs an nginx that calls `first`, and the application `delayed` when that fails, with 10 requests in flight. Each failed
/// call has `failed_calls` spans per side: none if no connection exists, else one.
fn expect_retries(world: &World, what: &str, first: &str, failed_calls: usize) -> Result<()> {
    let second = App::node("delayed").start(world)?;
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
    ensure!(requests == 200, "only {requests} requests were answered");
    // The request, both ends of the failed call if it has any, and both ends of the second call.
    let outcome = recording.finish(requests * (3 + 2 * failed_calls))?;
    let verdict = judge(&outcome.spans, &nginx.address(), |_| true);
    verdict.print(&format!("nginx proxy whose first upstream {what} | 10"));
    verdict.expect_counts(requests, 1 + failed_calls)?.expect_all_right()?;
    Ok(())
}

#[test]
fn nginx_retries_when_the_first_upstream_hangs_up() -> Result<()> {
    World::story("hangs up", |world| {
        let first = App::python("no_response").argument("hang-up").start(world)?;
        expect_retries(world, "hangs up", &first.address(), 1)
    })
}

#[test]
fn nginx_retries_when_the_first_upstream_times_out() -> Result<()> {
    World::story("times out", |world| {
        let first = App::python("no_response").argument("wait").start(world)?;
        expect_retries(world, "times out", &first.address(), 1)
    })
}

#[test]
fn nginx_retries_when_the_first_upstream_refuses_connections() -> Result<()> {
    World::story("refuses connections", |world| {
        let unused = Port::claim()?;
        expect_retries(world, "refuses connections", &unused.address(), 0)
    })
}

#[test]
fn nginx_requests_authorization_first() -> Result<()> {
    World::story("authorization", |world| {
        let (authorizer, backend) = (App::node("delayed").start(world)?, App::node("delayed").start(world)?);
        let upstreams = format!(
            "upstream authorizer {{ server {}; keepalive 10; }} upstream backend {{ server {}; keepalive 10; }}",
            authorizer.address(),
            backend.address()
        );
        let site = "proxy_http_version 1.1;
        proxy_set_header Connection '';
        location / { auth_request /authorize; proxy_pass http://backend; }
        location = /authorize { internal; proxy_pass http://authorizer$request_uri; }";
        let nginx = Nginx::site(site).http(&upstreams).start(world)?;
        let recording = Recording::start(world)?;
        let requests = Load::on(&nginx.address(), "/a").in_flight(50).run(1000..1600)?.answered.len();
        let outcome = recording.finish(5 * requests)?;
        let verdict = judge(&outcome.spans, &nginx.address(), |_| true);
        verdict.print("nginx proxy with auth_request | 50").expect_counts(requests, 2)?.expect_all_right()?;
        Ok(())
    })
}
