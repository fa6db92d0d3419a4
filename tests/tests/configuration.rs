//! The configuration file: what it selects, sets and exports, and that it can be checked and printed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::load::Load;
use onlooker_tests::servers::{App, Gunicorn, Nginx};
use onlooker_tests::wait::within;
use onlooker_tests::{Agent, Curl, Outcome, Receiver, Recording, Summary, World, agent_binary, spans};

/// Writes a configuration into the world's folder, without the indentation of the first line.
fn write(world: &World, text: &str) -> Result<PathBuf> {
    let path = world.dir().join("onlooker.yaml");
    fs::write(&path, text)?;
    Ok(path)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's path is UTF-8")
}

/// Runs the agent with these arguments. Returns its exit code, stdout and stderr.
fn onlooker(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Result<(Option<i32>, String, String)> {
    let mut command: Command = world.command(agent_binary()?);
    let Output { status, stdout, stderr } = world.output_of(command.args(arguments).envs(variables.iter().copied()))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code(), text(stdout), text(stderr)))
}

#[test]
fn a_file_is_checked_with_an_exit_code() -> Result<()> {
    World::story("config-check", |world| {
        let file =
            write(world, "file_format: \"1.0\"\nlog_level: wran\nextensions: {onlooker: {capture: {tsl: true}}}\n")?;
        let file = path(&file)?;
        let (code, stdout, _) = onlooker(world, &["config", "check", file], &[])?;
        let expected = format!(
            "{file}:2: log_level must be trace, trace2, trace3, trace4, debug, debug2, debug3, debug4, info, info2, info3, \
             info4, warn, warn2, warn3, warn4, error, error2, error3, error4, fatal, fatal2, fatal3 or fatal4, not \"wran\"; \
             did you mean \"warn\"?\n\
             {file}:3: unknown key \"tsl\" in extensions.onlooker.capture; did you mean \"tls\"?\n"
        );
        ensure!((code, stdout.as_str()) == (Some(1), expected.as_str()), "{code:?}\n{stdout}");

        // The agent does not start with it.
        let (code, _, stderr) =
            onlooker(world, &["run", "--config", file, "--cgroup", path(world.cgroup().path())?], &[])?;
        ensure!(code == Some(1) && stderr.contains(":2: log_level must be"), "{code:?}\n{stderr}");

        write(world, "file_format: \"1.0\"\nmeter_provider: {readers: []}\n")?;
        let (code, stdout, _) = onlooker(world, &["config", "check", file], &[])?;
        let expected =
            format!("{file}:2: Onlooker does not implement meter_provider, so it has no effect\n{file}: valid\n");
        ensure!((code, stdout.as_str()) == (Some(0), expected.as_str()), "{code:?}\n{stdout}");
        let (code, stdout, _) = onlooker(world, &["config", "check", "/no/such.yaml"], &[])?;
        ensure!(
            code == Some(1) && stdout.starts_with("cannot read the configuration file /no/such.yaml: "),
            "{stdout}"
        );
        Ok(())
    })
}

#[test]
fn the_effective_values_are_printed_with_their_origin() -> Result<()> {
    World::story("config-print", |world| {
        let file = write(world, "file_format: \"1.0\"\nextensions: {onlooker: {limits: {request_age: 60}}}\n")?;
        let file = path(&file)?;
        let variables = [("OTEL_CONFIG_FILE", file), ("OTEL_BSP_SCHEDULE_DELAY", "7")];
        let line = |printed: &str, key: &str| {
            let line = printed.lines().find(|line| line.contains(key)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (code, printed, _) = onlooker(world, &["config", "print", "--max-connections", "70"], &variables)?;
        ensure!(code == Some(0), "{printed}");
        let expected = [
            ("request_age", format!("extensions.onlooker.limits.request_age: 60 # {file}:2")),
            ("max_connections", "extensions.onlooker.limits.max_connections: 70 # --max-connections".to_owned()),
            // With a file, the other variables have no effect.
            ("schedule_delay", "tracer_provider.processors[].batch.schedule_delay: 200 # default".to_owned()),
        ];
        for (key, expected) in expected {
            ensure!(line(&printed, key) == expected, "{key} is not {expected}:\n{printed}");
        }
        let (_, printed, _) = onlooker(world, &["config", "print"], &variables[1..])?;
        let expected = "tracer_provider.processors[].batch.schedule_delay: 7 # OTEL_BSP_SCHEDULE_DELAY";
        ensure!(line(&printed, "schedule_delay") == expected, "{printed}");
        Ok(())
    })
}

#[test]
fn a_file_says_where_spans_go_and_other_variables_have_no_effect() -> Result<()> {
    World::story("config-file", |world| {
        let spans = world.dir().join("spans.jsonl");
        let file = write(
            world,
            &format!(
                "file_format: \"1.1\"
resource:
  attributes:
    - {{name: deployment.environment.name, value: \"${{STAGE:-test}}\"}}
    - {{name: shop.size, value: 7, type: int}}
tracer_provider:
  processors:
    - batch:
        schedule_delay: 50
        exporter:
          otlp_file/development: {{output_stream: \"file://{}\"}}
",
                spans.display()
            ),
        )?;
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let variables = [
            ("OTEL_CONFIG_FILE", path(&file)?),
            ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
            // GET would be unknown.
            ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "POST"),
        ];
        let agent = Agent::watch(world, &agent_binary()?, &[], &variables)?;
        let mut recording = Recording::of_agent(agent, &spans);
        ensure!(Curl::run(world, &[&nginx.url("/hello")])?.status() == 200);
        let printed = recording.agent().stdout()?;
        let outcome = recording.finish(2)?;
        outcome.expect_tree(&[], "curl client GET /hello -> 200\n  nginx server GET /hello -> 200 by host")?;
        let resource = &outcome.spans[0].resource;
        let value = |key: &str| resource.get(key).map(String::as_str);
        ensure!(value("deployment.environment.name") == Some("test") && value("a").is_none(), "{resource:?}");
        ensure!(value("shop.size") == Some("7"), "{resource:?}");
        ensure!(printed.is_empty(), "{printed}");
        Ok(())
    })
}

/// Starts an agent that is configured only by a file, in which `CGROUP` stands for the world's cgroup. It writes spans to a file.
fn record(world: &World, configuration: &str) -> Result<Recording> {
    let spans = world.dir().join("spans.jsonl");
    let file = write(world, &configuration.replace("CGROUP", path(world.cgroup().path())?))?;
    let options = ["--config", path(&file)?, "--file", path(&spans)?];
    Ok(Recording::of_agent(Agent::select(world, &agent_binary()?, &options, &[])?, &spans))
}

#[test]
fn the_first_rule_that_matches_a_process_decides() -> Result<()> {
    World::story("config-rules", |world| {
        let front = Nginx::site("location / { return 200 hello; }").start(world)?;
        let back = App::python("no_content").argument("127.0.0.1").start(world)?;
        let recording = record(
            world,
            &format!(
                "file_format: \"1.0\"
extensions:
  onlooker:
    selection:
      - {{action: exclude, cgroup: CGROUP, executable: curl}}
      - {{action: exclude, cgroup: CGROUP, port: {}}}
      - {{cgroup: CGROUP, executable: '*/nginx', user: ['0', root], service: {{name: front, namespace: shop}}}}
      - {{cgroup: CGROUP, language: [python], arguments: '*no_content*', service: {{name: back}}}}
",
                front.port()
            ),
        )?;
        // Excluded by its port, although a later rule includes nginx.
        ensure!(Curl::run(world, &[&front.url("/excluded")])?.status() == 200);
        ensure!(Curl::run(world, &[&back.url("/included")])?.status() == 204);
        // One that starts later.
        let late = Nginx::site("location / { return 200 hello; }").named("late").start(world)?;
        ensure!(Curl::run(world, &[&late.url("/late")])?.status() == 200);
        let outcome = recording.finish(2)?;
        let found: Vec<_> = outcome.spans.iter().map(|span| (span.name.as_str(), span.service.as_str())).collect();
        ensure!(found == [("GET /included", "back"), ("GET /late", "front")], "{found:?}");
        let namespace = |index: usize| outcome.spans[index].resource.get("service.namespace").map(String::as_str);
        ensure!(namespace(0).is_none() && namespace(1) == Some("shop"), "{:?}", outcome.spans);
        Ok(())
    })
}

/// An SDK that does not sample a health check samples nothing below it either.
#[test]
fn ignored_requests_have_no_spans_and_neither_have_their_calls() -> Result<()> {
    World::story("config-routes", |world| {
        let backend = Nginx::site("location / { return 200 hello; }").start(world)?;
        let caller = Gunicorn::app("caller").env("BACKEND_URL", backend.url("")).start(world)?;
        let mut recording = record(
            world,
            "file_format: \"1.0\"
extensions:
  onlooker:
    selection:
      - {cgroup: CGROUP}
    routes:
      patterns: ['/r/{number}', '/a/:shop']
      ignore: [/r/404, '/health*']
",
        )?;
        ensure!(Curl::run(world, &[&backend.url("/healthz")])?.status() == 200);
        ensure!(Curl::run(world, &[&caller.url("/r/404")?])?.status() == 200);
        ensure!(Curl::run(world, &[&caller.url("/r/7")?])?.status() == 200);
        // Both ends of each request: two of the health check, six of each request with its two calls.
        let spans = recording.wait_for_spans(6)?;
        let routes: Vec<_> = spans.iter().filter_map(|span| span.attributes.get("http.route")).collect();
        ensure!(routes == ["/r/{number}", "/a/:shop"], "{routes:?}");
        ensure!(recording.agent().stderr()?.lines().all(|line| !line.contains("WARN")));
        let outcome = recording.stop(2 + 6 + 6)?;
        ensure!(outcome.spans.len() == 6, "{:#?}", outcome.spans);
        let counts = ["requests_ignored", "requests_below_ignored"].map(|name| outcome.summary.get(name));
        ensure!(counts == [4, 4], "{counts:?}\n{}", outcome.summary);
        outcome.expect_tree(
            &[],
            "curl client GET /r/{number} -> 200
  caller server GET /r/{number} -> 200 by host
    caller client GET /a/:shop -> 200 by thread
      nginx server GET /a/:shop -> 200 by host
    caller client GET /b/{id} -> 200 by thread
      nginx server GET /b/{id} -> 200 by host",
        )?;
        Ok(())
    })
}

/// Writes the configuration anew as an editor does: under another name, which is then renamed.
fn replace(world: &World, text: &str) -> Result<()> {
    let new = world.dir().join("onlooker.yaml.new");
    fs::write(&new, text.replace("CGROUP", path(world.cgroup().path())?))?;
    Ok(fs::rename(new, world.dir().join("onlooker.yaml"))?)
}

const IN_EFFECT: &str = "onlooker.yaml is in effect";
const STAYS: &str = "the former configuration stays in force";

/// Eight configurations in turn while requests are served: rules, routes, limits and exporters change, and every fourth file is unusable.
#[test]
fn no_span_is_lost_while_the_configuration_changes_under_load() -> Result<()> {
    const CONFIGURATION: &str = "file_format: \"1.0\"
tracer_provider:
  processors: [{batch: {schedule_delay: DELAY, exporter: {console: }}}]
extensions:
  onlooker:
    limits: {max_connections: CONNECTIONS}
    routes: {patterns: [PATTERN], ignore: [/never]}
    selection:
      - {action: exclude, cgroup: CGROUP, executable: 'nothing-ROUND'}
      - {cgroup: CGROUP, executable: '*/node', service: {name: front}}
      - {cgroup: CGROUP, language: [LANGUAGE]}
";
    const ROUNDS: u32 = 8;
    let text = |round: u32| {
        let pattern = if round.is_multiple_of(2) { "/even/{number}" } else { "/load/{number}" };
        // Every fourth is unusable.
        let language = match round % 4 {
            3 => "cobol",
            even if even.is_multiple_of(2) => "python",
            _ => "java",
        };
        CONFIGURATION
            .replace("DELAY", &(50 + 10 * (round / 3)).to_string())
            .replace("CONNECTIONS", &(1000 + round).to_string())
            .replace("PATTERN", &format!("'{pattern}'"))
            .replace("ROUND", &round.to_string())
            .replace("LANGUAGE", language)
    };
    World::story("config-reload", |world| {
        // It answers after a few milliseconds, which bounds the load.
        let delayed = App::node("delayed").start(world)?;
        let mut recording = record(world, &text(0))?;
        let load = Load::on(&delayed.address(), "/load").in_flight(8);
        let ((), sent) = load.run_during(1, |progress| {
            let (mut good, mut bad) = (0, 0);
            for round in 1..=ROUNDS {
                progress.wait_for_more(100)?;
                replace(world, &text(round))?;
                let (log, count) = if round % 4 == 3 { (STAYS, &mut bad) } else { (IN_EFFECT, &mut good) };
                *count += 1;
                recording.agent().process().wait_for_log(within(Duration::from_secs(20)), log, *count)?;
            }
            // The file is as before, but the operator asks for it.
            progress.wait_for_more(100)?;
            recording.agent().process().signal(libc::SIGHUP)?;
            recording.agent().process().wait_for_log(within(Duration::from_secs(20)), IN_EFFECT, good + 1)?;
            progress.wait_for_more(100)
        })?;
        let log = recording.agent().stderr()?;
        ensure!(
            log.contains("onlooker.yaml:11: extensions.onlooker.selection[2].language has the unknown name \"cobol\""),
            "{log}"
        );
        let outcome = recording.finish(sent.answered.len())?;
        let names: BTreeSet<_> = outcome.spans.iter().map(|span| span.name.as_str()).collect();
        ensure!(names.contains("GET /load/{number}") && names.contains("GET /load/{id}"), "{names:?}");
        ensure!(outcome.spans.iter().all(|span| span.service == "front"), "a span has another service");
        Ok(())
    })
}

#[test]
fn rules_that_are_read_again_select_and_exclude_running_processes() -> Result<()> {
    World::story("config-reselect", |world| {
        let start = |name: &str| Nginx::site("location / { return 200 hello; }").named(name).start(world);
        let (first, second) = (start("first")?, start("second")?);
        let rules = |port: u16| {
            format!(
                "file_format: \"1.0\"
resource: {{attributes_list: \"port={port}\"}}
extensions: {{onlooker: {{selection: [{{cgroup: CGROUP, port: {port}, executable: nginx}}]}}}}
"
            )
        };
        let mut recording = record(world, &rules(first.port()))?;
        let get = |nginx: &Nginx, path: &str| -> Result<()> {
            ensure!(Curl::run(world, &[&nginx.url(path)])?.status() == 200);
            Ok(())
        };
        get(&first, "/a")?;
        get(&second, "/b")?;
        recording.wait_for_spans(1)?;
        replace(world, &rules(second.port()))?;
        recording.agent().wait_for_log(within(Duration::from_secs(20)), IN_EFFECT)?;
        get(&first, "/c")?;
        get(&second, "/d")?;
        let log = recording.agent().stderr()?;
        ensure!(
            log.contains("resource.attributes_list has changed, which takes effect when Onlooker is started again"),
            "{log}"
        );
        let outcome = recording.finish(2)?;
        let names: Vec<_> = outcome.spans.iter().map(|span| span.name.as_str()).collect();
        ensure!(names == ["GET /a", "GET /d"], "{names:?}");
        Ok(())
    })
}

/// The response is not seen. Before, the request waited for it up to the age limit.
#[test]
fn open_requests_of_a_process_that_rules_exclude_end_when_they_do() -> Result<()> {
    World::story("config-deselect", |world| {
        let rules = |first: &str| {
            format!(
                "file_format: \"1.0\"
extensions:
  onlooker:
    routes: {{ignore: [/never]}}
    selection: [{first}{{cgroup: CGROUP, language: [python], service: {{name: slow}}}}]
"
            )
        };
        let mut server = App::python("hanging").start(world)?;
        let mut recording = record(world, &rules(""))?;
        let mut client = RawClient::open(&server.address())?;
        client.send(b"GET /forever HTTP/1.1\r\nhost: a\r\n\r\n")?;
        server.process().wait_for_log(within(Duration::from_secs(20)), "hanging", 1)?;
        replace(world, &rules("{action: exclude, cgroup: CGROUP, arguments: '*hanging*'}, "))?;
        recording.wait_for_spans(1)?;
        recording.agent().wait_for_log(within(Duration::from_secs(20)), IN_EFFECT)?;
        let outcome = recording.finish(1)?;
        outcome.expect_tree(&["onlooker.incomplete"], "slow server GET /forever onlooker.incomplete=deselected\n")?;
        ensure!(outcome.summary.get("requests_deselected") == 1, "{}", outcome.summary);
        Ok(())
    })
}

/// Where a trace context is added: what a rule says holds for connections that are opened later.
#[test]
fn a_rule_turns_the_trace_context_off_for_its_service() -> Result<()> {
    World::story("config-inject", |world| {
        let backend = Receiver::of_requests()?;
        let site = format!("location / {{ proxy_pass {}; }}", backend.url(""));
        let start = |name: &str| Nginx::site(&site).named(name).start(world);
        let (first, second) = (start("first")?, start("second")?);
        let rules = |general: bool, of_first: bool| {
            format!(
                "file_format: \"1.0\"
extensions:
  onlooker:
    propagation: {{inject: {general}}}
    selection:
      - {{action: exclude, cgroup: CGROUP, executable: curl}}
      - {{cgroup: CGROUP, port: {}, propagation: {{inject: {of_first}}}}}
      - {{cgroup: CGROUP}}
",
                first.port()
            )
        };
        let mut recording = record(world, &rules(true, false))?;
        // Which of both gets a trace context, in the order of the requests below.
        let expected = [[false, true], [true, false], [true, true], [false, true]];
        for (round, [general, of_first]) in
            [[true, false], [false, true], [true, true], [true, false]].iter().enumerate()
        {
            if round > 0 {
                replace(world, &rules(*general, *of_first))?;
                recording.agent().process().wait_for_log(within(Duration::from_secs(20)), IN_EFFECT, round)?;
            }
            for nginx in [&first, &second] {
                ensure!(Curl::run(world, &[&nginx.url(&format!("/{round}"))])?.status() == 200);
            }
        }
        // Each request, and the call that is made for it.
        let outcome = recording.finish(16)?;
        let requests = backend.requests();
        let contexts: Vec<_> = requests.iter().map(|request| request.values("traceparent")).collect();
        let found: Vec<_> = contexts.iter().map(|values| !values.is_empty()).collect();
        ensure!(found == expected.concat(), "{found:?}");
        let is_span = |context: &str| outcome.spans.iter().any(|span| context.contains(&span.span_id));
        ensure!(contexts.concat().into_iter().all(is_span), "{contexts:?}");
        let counts = ["added", "off"].map(|what| outcome.summary.get(&format!("kernel_traceparent_{what}")));
        ensure!(counts == [5, 3], "{counts:?}\n{}", outcome.summary);
        Ok(())
    })
}

/// They select and exclude nothing there. The command waits until the agent has read them again.
#[test]
fn rules_say_how_processes_of_a_command_are_treated() -> Result<()> {
    World::story("config-exec-rules", |world| {
        let backend = Receiver::of_requests()?;
        let log = world.dir().join("log");
        let rules = |name: &str| {
            format!(
                "file_format: \"1.0\"
extensions:
  onlooker:
    routes: {{ignore: [/always]}}
    selection:
      - {{action: exclude, executable: timeout}}
      - {{executable: 'python3*', service: {{name: {name}}}, routes: {{ignore: [/{name}]}}}}
"
            )
        };
        let file = write(world, &rules("first"))?;
        let new = world.dir().join("new.yaml");
        fs::write(&new, rules("second"))?;
        let (url, spans) = (backend.url(""), world.dir().join("spans.jsonl"));
        let script = format!(
            "import os, time, urllib.request
def ask():
    for path in ('first', 'second', 'always'):
        urllib.request.urlopen(f'{url}/{{path}}').read()
ask()
os.rename('{}', '{}')
while '{IN_EFFECT}' not in open('{}').read():
    time.sleep(0.02)
ask()
",
            path(&new)?,
            path(&file)?,
            path(&log)?
        );
        let mut command: Command = world.command(agent_binary()?);
        command.args(["exec", "--config", path(&file)?, "--file", path(&spans)?, "--"]);
        command.args(["timeout", "60", "python3", "-c", &script]);
        world.run_unwatched(command.stderr(fs::File::create(&log)?))?;
        let log = fs::read_to_string(&log)?;
        ensure!(log.matches("rules exclude nothing here").count() == 1, "{log}");
        let spans = spans::from_requests(&spans::read_lines(&spans)?)?;
        let spans = Outcome::check(spans, Summary::read(&log), &6.into())?.spans;
        let found: Vec<_> = spans.iter().map(|span| (span.service.as_str(), span.get("url.full"))).collect();
        let expected = [("first", "second"), ("first", "always"), ("second", "first"), ("second", "always")];
        let expected = expected.map(|(service, path)| (service, format!("{url}/{path}")));
        ensure!(found.iter().map(|(service, url)| (*service, (*url).to_owned())).eq(expected), "{found:?}\n{log}");
        Ok(())
    })
}

/// Under `exec` the variable may be meant for the SDK of the command.
#[test]
fn a_wrong_file_of_the_environment_does_not_stop_a_command() -> Result<()> {
    World::story("config-exec", |world| {
        let file = write(world, "file_format: \"1.0\"\nnonsense: 7\n")?;
        let file = path(&file)?;
        let (code, stdout, stderr) =
            onlooker(world, &["exec", "--export", "none", "--", "echo", "hello"], &[("OTEL_CONFIG_FILE", file)])?;
        ensure!((code, stdout.as_str()) == (Some(0), "hello\n"), "{code:?} {stdout} {stderr}");
        ensure!(stderr.contains(&format!("{file}:2: unknown key \"nonsense\"")), "{stderr}");
        let (code, stdout, stderr) = onlooker(world, &["exec", "--config", file, "--", "echo", "hello"], &[])?;
        ensure!(code == Some(125) && stdout.is_empty(), "{code:?} {stdout} {stderr}");
        Ok(())
    })
}
