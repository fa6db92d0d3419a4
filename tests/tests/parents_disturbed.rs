//! Whose request is it, when clients give up, and when the agent comes in the middle?

use std::ops::Range;

use anyhow::{Result, ensure};
use onlooker_tests::client::now;
use onlooker_tests::load::Load;
use onlooker_tests::parents::{Verdict, judge, number_of};
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Nginx, left_alone};
use onlooker_tests::spans::Span;
use onlooker_tests::{Curl, Recording, World, record_skip};

/// The application `errands` in its own server, and the service that it asks; none if it can't run here.
fn errands(world: &World, app: &AppOptions) -> Result<Option<(App, App)>> {
    if let Some(reason) = app.missing() {
        record_skip(&reason);
        return Ok(None);
    }
    let elsewhere = App::node("dawdle").start(world)?;
    let app = app.clone().env("ELSEWHERE_URL", elsewhere.url("")).start(world)?;
    Ok(Some((app, elsewhere)))
}

/// The same in Flask, under gunicorn with 20 threads.
fn errands_in_threads(world: &World) -> Result<(Gunicorn, App)> {
    let elsewhere = App::node("dawdle").start(world)?;
    let app = Gunicorn::app("errands").env("ELSEWHERE_URL", elsewhere.url("")).start(world)?;
    Ok((app, elsewhere))
}

/// Requests of which one of seven is given up.
const DISTURBED: Range<u64> = 1000..1700;
/// How many of them are not.
const PATIENT: usize = 600;
/// Those that come afterwards, one by one.
const IN_PEACE: Range<u64> = 5000..5020;

/// Of a hundred calls for requests that were seen from their beginning and not given up, how many may be given a parent that
/// is wrong, said to be likely: see parents.rs.
const WRONG: usize = 1;
/// Of those for requests that were given up, which the server goes on with beside others that came since: the table shows 2
/// of 134.
const WRONG_GIVEN_UP: usize = 5;

/// Lets clients of `load` give up. Gives the verdict on the others' requests, on those that were given up, and on those of
/// clients that come when all is over.
fn when_clients_give_up(world: &World, program: &str, load: &Load, elsewhere: &App) -> Result<[Verdict; 3]> {
    let recording = Recording::start(world)?;
    let disturbed = load.clone().in_flight(30).aborting(7).run(DISTURBED)?;
    // What was given up is still worked on; then the agent is to know that it is over.
    left_alone(load.address())?;
    let asked = elsewhere.asked()?;
    // A request asks elsewhere first of all.
    let ends = disturbed.begun(|number| asked.contains(&format!("/a/{number}"))) + 2 * asked.len();
    recording.wait_for(ends)?;
    let in_peace = load.run(IN_PEACE)?.answered.len();
    let calls_in_peace = elsewhere.asked()?.len() - asked.len();
    let spans = recording.finish(ends + in_peace + 2 * calls_in_peace)?.spans;
    let verdict = |what: &str, asked: &dyn Fn(u64) -> bool| {
        let verdict = judge(&spans, load.address(), asked);
        verdict.tell(&format!("{program}, {what}"));
        verdict
    };
    Ok([
        verdict("patient", &|number| disturbed.answered.contains_key(&number)),
        verdict("given up", &|number| disturbed.given_up.contains_key(&number)),
        verdict("afterwards", &|number| IN_PEACE.contains(&number)),
    ])
}

#[test]
fn threads_stay_proof_when_clients_give_up() -> Result<()> {
    World::story("gthread", |world| {
        let (app, elsewhere) = errands_in_threads(world)?;
        let [patient, given_up, later] =
            when_clients_give_up(world, "gthread", &Load::on(&app.address(), "/r"), &elsewhere)?;
        patient.is_of(PATIENT, 2)?.is_right_by("thread")?;
        given_up.is_wrong_at_most(WRONG_GIVEN_UP)?;
        later.is_of(20, 2)?.is_right_by("thread")?;
        Ok(())
    })
}

#[test]
fn threads_of_a_jvm_stay_proof_when_clients_give_up() -> Result<()> {
    World::story("jvm", |world| {
        let Some((app, elsewhere)) = errands(world, &App::java("Errands"))? else { return Ok(()) };
        let [patient, given_up, later] =
            when_clients_give_up(world, "jvm", &Load::on(&app.address(), "/r"), &elsewhere)?;
        patient.is_of(PATIENT, 2)?.is_right_by("thread")?;
        given_up.is_wrong_at_most(WRONG_GIVEN_UP)?;
        later.is_of(20, 2)?.is_right_by("thread")?;
        Ok(())
    })
}

#[test]
fn requests_that_were_given_up_are_no_candidates_any_more() -> Result<()> {
    World::story("node", |world| {
        let Some((app, elsewhere)) = errands(world, &App::node("errands"))? else { return Ok(()) };
        let [patient, given_up, later] =
            when_clients_give_up(world, "node", &Load::on(&app.address(), "/r"), &elsewhere)?;
        patient.is_of(PATIENT, 2)?.is_wrong_at_most(WRONG)?;
        given_up.is_wrong_at_most(WRONG_GIVEN_UP)?;
        // The tick proves a parent only if the count of requests that could be meant has come back to this one.
        later.is_of(20, 2)?.is_right_by("tick")?;
        Ok(())
    })
}

/// Starts an agent in the middle of `load`. Gives the verdict on the requests from before it was ready, and on those that
/// began when it was; each of these has to have spans for itself and its `calls`, at both of their ends.
fn in_the_middle(world: &World, program: &str, load: &Load, calls: usize) -> Result<[Verdict; 2]> {
    let load = load.clone().in_flight(20);
    let ((recording, started, ready), sent) = load.during(1000, |progress| {
        progress.more(100)?;
        let started = now();
        let recording = Recording::start(world)?;
        let ready = progress.next();
        progress.more(500)?;
        Ok((recording, started, ready))
    })?;
    let ends = |requests: usize| requests * (1 + 2 * calls);
    let must = sent.answered.range(ready..).count();
    let may = sent.answered.values().filter(|times| times.end >= started).count();
    let began_then = |span: &&Span| number_of(span).is_some_and(|number| number >= ready);
    recording.wait_until("spans of what began then", |spans| spans.iter().filter(began_then).count() >= ends(must))?;
    let spans = recording.stop(ends(must)..=ends(may))?.spans;
    let before = judge(&spans, load.address(), |number| number < ready);
    let after = judge(&spans, load.address(), |number| number >= ready);
    before.tell(&format!("{program}, from before it was ready"));
    after.tell(&format!("{program}, from then on"));
    after.is_of(must, calls)?;
    Ok([before, after])
}

#[test]
fn threads_are_proof_for_an_agent_that_comes_in_the_middle() -> Result<()> {
    World::story("gthread", |world| {
        let (app, _elsewhere) = errands_in_threads(world)?;
        let [before, after] = in_the_middle(world, "gthread", &Load::on(&app.address(), "/r"), 2)?;
        before.is_never_certainly_wrong()?;
        after.is_right_by("thread")?;
        Ok(())
    })
}

#[test]
fn loops_deceive_no_agent_that_comes_in_the_middle() -> Result<()> {
    for app in [App::node("errands"), App::python("errands_asyncio"), App::go("errands")] {
        World::story(app.language(), |world| {
            let Some((running, _elsewhere)) = errands(world, &app)? else { return Ok(()) };
            let [before, after] = in_the_middle(world, app.language(), &Load::on(&running.address(), "/r"), 2)?;
            before.is_wrong_at_most(WRONG)?;
            after.is_wrong_at_most(WRONG)?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_proxy_deceives_no_agent_that_comes_in_the_middle() -> Result<()> {
    World::story("proxy", |world| {
        let elsewhere = App::node("dawdle").start(world)?;
        let nginx = Nginx::proxy_to(&elsewhere.address()).start(world)?;
        let [before, after] = in_the_middle(world, "proxy", &Load::on(&nginx.address(), "/a"), 1)?;
        before.is_never_certainly_wrong()?;
        after.is_right()?;
        Ok(())
    })
}

#[test]
fn what_a_server_asks_after_it_let_the_body_come_is_its_request_s() -> Result<()> {
    World::story("continue", |world| {
        let (app, _elsewhere) = errands_in_threads(world)?;
        let recording = Recording::start(world)?;
        let (body, url) = ("x".repeat(5000), app.url("/r/7")?);
        // The server reads the head, answers 100 (Continue) and reads the body then.
        let curl = Curl::run(world, &["--header", "Expect: 100-continue", "--data", &body, &url])?;
        ensure!(curl.status() == 200 && curl.body == b"7\n");
        recording.finish(6)?.is_tree(
            &[],
            "
            curl client POST /r/{id} -> 200
              errands server POST /r/{id} -> 200 by host
                errands client GET /a/{id} -> 200 by thread
                  dawdle server GET /a/{id} -> 200 by host
                errands client GET /b/{id} -> 200 by thread
                  dawdle server GET /b/{id} -> 200 by host
            ",
        )?;
        Ok(())
    })
}
