use std::net::TcpListener;
use std::process::{Command, Stdio};

use rstest::rstest;

use super::*;
use crate::discover::cgroup;

fn executables(globs: &[&str]) -> Options {
    Options { exe: globs.iter().map(|glob| (*glob).to_owned()).collect(), ..Options::default() }
}

fn selects(selectors: &Selectors, pid: u32) -> bool {
    matches!(selectors.select(pid).unwrap(), Decision::Included(_))
}

fn any_process() -> ProcessFacts {
    ProcessFacts { identity: Some(Identity { pid: 4711, started: 7 }), ..ProcessFacts::default() }
}

#[rstest]
#[case::path("/usr/sbin/nginx", "/usr/sbin/nginx", true)]
#[case::any_folder("*/nginx", "/usr/sbin/nginx", true)]
#[case::star_passes_slashes("/opt/*/api", "/opt/shop/bin/api", true)]
#[case::name("nginx", "/usr/sbin/nginx", true)]
#[case::name_with_star("python3*", "/usr/bin/python3.11", true)]
#[case::other_name("nginx", "/usr/sbin/nginx-debug", false)]
#[case::name_is_no_folder("nginx", "/opt/nginx/api", false)]
#[case::everything("*", "/usr/sbin/nginx", true)]
#[case::set("*/php-fpm[78].*", "/usr/sbin/php-fpm8.2", true)]
#[case::space("/opt/the shop/api", "/opt/the shop/api", true)]
fn an_executable_is_matched_by_a_glob(#[case] glob: &str, #[case] path: &str, #[case] selected: bool) {
    let selectors = Selectors::new(&executables(&[glob])).unwrap();
    assert_eq!(selectors.matches(&ProcessFacts { executables: vec![path.into()], ..any_process() }), selected);
}

#[rstest]
#[case::whole("/usr/sbin/nginx", "nginx", true)]
#[case::in_any_folder("*/nginx", "nginx", true)]
#[case::by_name("nginx", "nginx", true)]
#[case::beginning("python3*", "python3", false)]
#[case::any_end("*-server", "", false)]
#[case::a_star_passes_slashes("/opt/shop*", "", false)]
#[case::bracketed_slash("/opt/shop[/]api", "", false)]
#[case::everything("*", "", false)]
fn the_kernel_filters_by_how_names_of_matching_programs_begin(
    #[case] glob: &str,
    #[case] beginning: &str,
    #[case] whole: bool,
) {
    let selectors = Selectors::new(&executables(&[glob])).unwrap();
    assert_eq!(selectors.names().collect::<Vec<_>>(), [NameBeginning { beginning, whole }]);
}

#[test]
fn the_kernel_reports_only_what_the_selectors_need() {
    let of = |options| Selectors::new(&options).unwrap().interest();
    assert_eq!(of(Options { pid: vec![std::os::unix::process::parent_id()], ..Options::default() }), 0);
    assert_eq!(of(executables(&["nginx"])), interest::NAMES);
    let port = Options { port: vec!["80".parse().unwrap()], ..Options::default() };
    assert_eq!(of(port), interest::EXECS | interest::LISTENERS);
    assert_eq!(of(Options { all: true, ..Options::default() }), interest::EXECS);
    assert_eq!(Selectors::of_cgroup("/shop".into()).unwrap().interest(), interest::CGROUPS);
}

#[rstest]
#[case::one("8080", Ok("8080"))]
#[case::range("8000-8099", Ok("8000-8099"))]
#[case::all("1-65535", Ok("1-65535"))]
#[case::zero("0", Err(PortRangeError::NotAPort))]
#[case::too_large("65536", Err(PortRangeError::NotAPort))]
#[case::backwards("90-80", Err(PortRangeError::Backwards))]
#[case::open("8000-", Err(PortRangeError::NotAPort))]
#[case::name("http", Err(PortRangeError::NotAPort))]
fn a_port_range_is_parsed(#[case] text: &str, #[case] range: Result<&str, PortRangeError>) {
    assert_eq!(text.parse::<PortRange>().map(|range| range.to_string()), range.map(str::to_owned));
}

#[test]
fn any_selector_suffices_and_none_is_an_error() {
    let port = Options { port: vec!["80-90".parse().unwrap()], ..executables(&["/opt/api"]) };
    let selectors = Selectors::new(&port).unwrap();
    assert!(!selectors.match_cgroups());
    assert!(selectors.matches(&ProcessFacts { ports: vec![5432, 85], ..any_process() }));
    assert!(selectors.matches(&ProcessFacts { executables: vec!["/opt/api".into()], ..any_process() }));
    assert!(!selectors.matches(&ProcessFacts { ports: vec![5432], ..any_process() }));
    assert!(!selectors.matches(&any_process()));
    assert!(selectors.select_listening(4711, 90) && !selectors.select_listening(4711, 91));
    assert!(matches!(Selectors::new(&Options::default()), Err(SelectError::Nothing)));
}

#[test]
fn kernel_threads_and_the_agent_are_never_selected() {
    let selectors = Selectors::new(&Options { all: true, ..Options::default() }).unwrap();
    assert!(selectors.matches(&any_process()));
    assert!(!selectors.matches(&ProcessFacts { kernel_thread: true, ..any_process() }));
    assert!(!selects(&selectors, std::process::id()));
    assert!(!selectors.select_listening(std::process::id(), 80));
    let scan = selectors.scan().unwrap();
    assert!(scan.selected.contains(&1));
    assert!(!scan.selected.contains(&std::process::id()));
}

#[rstest]
#[case::bad_glob(executables(&["/opt/[a"]), "--exe `/opt/[a`: ")]
#[case::no_such_process(Options { pid: vec![0x7fff_ffff], ..Options::default() }, "--pid 2147483647: process 2147483647 does not exist")]
#[case::myself(Options { pid: vec![std::process::id()], ..Options::default() }, "--pid")]
#[case::no_such_cgroup(Options { cgroup: vec!["/no/such".into()], ..Options::default() }, "--cgroup /no/such: no ")]
fn an_invalid_selector_is_one_clear_error(#[case] options: Options, #[case] beginning: &str) {
    let error = Selectors::new(&options).unwrap_err().to_string();
    assert!(error.starts_with(beginning), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_running_process_is_selected_by_each_fact() {
    // A shell that waits with a child, and a listening socket that both inherit.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut shell =
        Command::new("/bin/sh").args(["-c", "cat; true"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = shell.id();
    let process = Process::open(pid).unwrap();
    let cgroup = cgroup::path_in(&process.cgroups().unwrap());

    let by_pid = Selectors::new(&Options { pid: vec![pid], ..Options::default() }).unwrap();
    assert_eq!(by_pid.scan().unwrap().selected, [pid]);
    let by_exe = Selectors::new(&executables(&["/bin/sh"])).unwrap();
    assert!(selects(&by_exe, pid), "the path of a link matches its target");
    let by_port = Selectors::new(&Options { port: vec![port.to_string().parse().unwrap()], ..Options::default() });
    assert!(by_port.unwrap().scan().unwrap().selected.contains(&pid));
    if let Some(cgroup) = cgroup {
        let by_cgroup = Selectors::new(&Options { cgroup: vec![cgroup], ..Options::default() }).unwrap();
        assert!(selects(&by_cgroup, pid));
    }
    let tree = Selectors::of_tree(&process).unwrap();
    assert!(selects(&tree, pid));
    assert!(!selects(&tree, 1));
    let above = Selectors::of_tree(&Process::open(1).unwrap()).unwrap();
    assert!(selects(&above, pid), "a descendant of init");

    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(!selects(&by_pid, pid));
}

fn rules(rules: &[RuleOptions]) -> Selectors {
    Selectors::with_rules(&Options::default(), rules, &Treatment::default()).unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn of_nginx() -> ProcessFacts {
    ProcessFacts {
        executables: vec!["/usr/sbin/nginx".into()],
        arguments: Some("nginx: worker process -g daemon off;".to_owned()),
        cgroup: Some("/system.slice/nginx.service".into()),
        ports: vec![80, 8080],
        user: Some((33, "www-data".to_owned())),
        container: Some("4ac0b7b2a3f4".to_owned()),
        language: Some("python"),
        ..any_process()
    }
}

#[rstest]
#[case::executable(RuleOptions { executables: texts(&["apache2", "*/nginx"]), ..RuleOptions::default() }, true)]
#[case::other_executable(RuleOptions { executables: texts(&["apache2"]), ..RuleOptions::default() }, false)]
#[case::arguments(RuleOptions { arguments: texts(&["*worker*daemon*"]), ..RuleOptions::default() }, true)]
#[case::other_arguments(RuleOptions { arguments: texts(&["worker"]), ..RuleOptions::default() }, false)]
#[case::port(RuleOptions { ports: vec!["8000-8100".parse().unwrap()], ..RuleOptions::default() }, true)]
#[case::other_port(RuleOptions { ports: vec!["443".parse().unwrap()], ..RuleOptions::default() }, false)]
#[case::cgroup(RuleOptions { cgroups: texts(&["/system.slice/nginx.service"]), ..RuleOptions::default() }, true)]
#[case::cgroup_above(RuleOptions { cgroups: texts(&["/system.slice*"]), ..RuleOptions::default() }, true)]
#[case::cgroup_glob(RuleOptions { cgroups: texts(&["/*/nginx.*"]), ..RuleOptions::default() }, true)]
#[case::other_cgroup(RuleOptions { cgroups: texts(&["/system.slice/ngin"]), ..RuleOptions::default() }, false)]
#[case::user(RuleOptions { users: texts(&["www-*"]), ..RuleOptions::default() }, true)]
#[case::user_id(RuleOptions { users: texts(&["33"]), ..RuleOptions::default() }, true)]
#[case::other_user(RuleOptions { users: texts(&["3", "root"]), ..RuleOptions::default() }, false)]
#[case::container(RuleOptions { containers: texts(&["4ac0*"]), ..RuleOptions::default() }, true)]
#[case::other_container(RuleOptions { containers: texts(&["4ac0"]), ..RuleOptions::default() }, false)]
#[case::language(RuleOptions { languages: texts(&["java", "python"]), ..RuleOptions::default() }, true)]
#[case::other_language(RuleOptions { languages: texts(&["java"]), ..RuleOptions::default() }, false)]
#[case::all(RuleOptions { all: true, ..RuleOptions::default() }, true)]
#[case::every_kind(RuleOptions { executables: texts(&["nginx"]), users: texts(&["www-data"]), ports: vec!["80".parse().unwrap()], ..RuleOptions::default() }, true)]
#[case::one_kind_fails(RuleOptions { executables: texts(&["nginx"]), users: texts(&["root"]), ..RuleOptions::default() }, false)]
#[case::nothing(RuleOptions::default(), false)]
fn a_rule_matches_if_one_of_each_kind_of_condition_holds(#[case] rule: RuleOptions, #[case] matches: bool) {
    assert_eq!(rules(&[rule]).matches(&of_nginx()), matches);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let excluded = RuleOptions { excludes: true, users: texts(&["www-data"]), ..RuleOptions::default() };
    let included = RuleOptions { executables: texts(&["nginx"]), ..RuleOptions::default() };
    let both = [excluded, included];
    assert_eq!(rules(&both).decide(&of_nginx()), Decision::Excluded);
    let root = ProcessFacts { user: Some((0, "root".to_owned())), ..of_nginx() };
    assert_eq!(rules(&both).decide(&root), Decision::Included(1));
    assert_eq!(rules(&both).decide(&any_process()), Decision::Unmatched);
    let [excluded, included] = both;
    let reversed = [included, excluded.clone()];
    assert_eq!(rules(&reversed).decide(&of_nginx()), Decision::Included(0));
    // Options of the command line come first.
    let selectors =
        Selectors::with_rules(&executables(&["nginx"]), std::slice::from_ref(&excluded), &Treatment::default())
            .unwrap();
    assert_eq!(selectors.decide(&of_nginx()), Decision::Included(0));
    let nothing = Selectors::with_rules(&Options::default(), &[excluded], &Treatment::default());
    assert!(matches!(nothing, Err(SelectError::Nothing)));
}

#[test]
fn the_kernel_side_selects_cgroups_only_if_no_rule_before_excludes() {
    let root = RuleOptions { cgroups: texts(&["/"]), ..RuleOptions::default() };
    let excluded = RuleOptions { excludes: true, executables: texts(&["curl"]), ..RuleOptions::default() };
    if Hierarchy::find().is_err() {
        return;
    }
    let selectors = rules(&[root.clone(), excluded.clone()]);
    assert_eq!((selectors.interest(), selectors.cgroup_ids().len()), (interest::CGROUPS, 1));
    let selectors = rules(&[excluded, root]);
    assert_eq!((selectors.interest(), selectors.cgroup_ids().len()), (interest::EXECS, 0));
    assert_eq!(selectors.names().count(), 0);
}

#[test]
fn what_lasts_for_an_executable_follows_from_executables_alone() {
    let nginx = RuleOptions { executables: texts(&["nginx"]), ..RuleOptions::default() };
    let by_user = RuleOptions { users: texts(&["root"]), ..nginx.clone() };
    let never = RuleOptions { excludes: true, ..nginx.clone() };
    let not_root = RuleOptions { excludes: true, users: texts(&["root"]), ..RuleOptions::default() };
    let lasting = |given: &[RuleOptions]| rules(given).lasting(&["/usr/sbin/nginx".into()]);
    let all = RuleOptions { all: true, ..RuleOptions::default() };
    assert_eq!(lasting(std::slice::from_ref(&nginx)), Some(true));
    assert_eq!(lasting(&[by_user]), None);
    assert_eq!(lasting(&[never, all.clone()]), Some(false));
    assert_eq!(lasting(&[not_root, nginx.clone()]), None);
    assert_eq!(lasting(&[all.clone(), nginx]), Some(true));
    assert_eq!(lasting(&[all]), Some(false));
}

/// A rule about shells, which turns the trace context of their requests off or on.
fn of_shells(inject: Option<bool>) -> RuleOptions {
    let treatment = Treatment { inject, service_name: Some("shells".to_owned()), ..Treatment::default() };
    RuleOptions { executables: texts(&["/bin/sh"]), treatment, ..RuleOptions::default() }
}

/// A shell, and a process that it started. Neither is a process of another test.
fn shell_with_child() -> (std::process::Child, [Process; 2]) {
    let mut shell = Command::new("/bin/sh").args(["-c", "cat; true"]).stdin(Stdio::piped()).spawn().unwrap();
    let process = Process::open(shell.id()).unwrap();
    let by = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if let Some(child) = process.children().first().and_then(|child| Process::open(*child).ok())
            && child.executable().unwrap().is_some_and(|path| !path.ends_with("dash") && !path.ends_with("sh"))
        {
            return (shell, [process, child]);
        }
        assert!(std::time::Instant::now() < by, "the shell started nothing");
        assert!(shell.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
}

#[rstest]
#[case::nothing_said(false, None, [false, false, false])]
#[case::everywhere(true, None, [true, true, true])]
#[case::off_by_rule(true, Some(false), [false, false, true])]
#[case::on_by_rule(false, Some(true), [true, true, false])]
fn a_rule_says_whether_requests_get_a_trace_context(
    #[case] general: bool,
    #[case] of_rule: Option<bool>,
    #[case] expected: [bool; 3],
) {
    let (mut shell, [process, child]) = shell_with_child();
    let general = Treatment { inject: Some(general), ..Treatment::default() };
    let all = RuleOptions { all: true, ..RuleOptions::default() };
    let rules = [of_shells(of_rule), all];
    let init = Process::open(1).unwrap();
    let selectors = Selectors::with_rules(&Options::default(), &rules, &general).unwrap();
    // A child is treated as its parent only where no rule matches it.
    let of = |selectors: &Selectors| [&process, &child, &init].map(|process| selectors.inject_into(process));
    assert_eq!(of(&selectors), [expected[0], expected[2], expected[2]]);
    let selectors = Selectors::with_rules(&Options::default(), &rules[..1], &general).unwrap();
    assert_eq!(of(&selectors), expected);
    assert_eq!(
        (selectors.can_inject(), selectors.limit_injection()),
        (expected.contains(&true), expected.contains(&false))
    );
    // Whatever is off or on can be turned by other rules.
    let others = selectors.followed_by(&[of_shells(Some(!expected[0]))], &general).unwrap();
    assert_eq!(of(&others), [!expected[0], !expected[0], expected[2]]);
    shell.kill().unwrap();
    shell.wait().unwrap();
}

/// Under `exec`, rules select nothing and exclude nothing.
#[test]
fn rules_may_only_say_how_processes_are_treated() {
    let (mut shell, [process, child]) = shell_with_child();
    let general = Treatment { inject: Some(true), ..Treatment::default() };
    let excluded = RuleOptions { excludes: true, executables: texts(&["cat"]), ..RuleOptions::default() };
    let own = Selectors::of_tree(&process).unwrap();
    let selectors = own.treated_by(&[excluded, of_shells(Some(false))], &general).unwrap();
    let name = |selectors: &Selectors, process| {
        selectors.applied_to(process).treatment.and_then(|treatment| treatment.service_name.clone())
    };
    for selectors in [selectors.clone(), selectors.followed_by(&[of_shells(Some(false))], &general).unwrap()] {
        assert!(selects(&selectors, process.pid()) && selects(&selectors, child.pid()) && !selects(&selectors, 1));
        assert!(!selectors.can_exclude() && selectors.interest() == own.interest());
        assert_eq!(name(&selectors, &process).as_deref(), Some("shells"));
        assert!(!selectors.inject_into(&process));
    }
    // What a rule would exclude is treated as what none matches.
    assert_eq!((name(&selectors, &child), selectors.inject_into(&child)), (None, true));
    // What the agent descends from does not matter.
    let all = RuleOptions { pids: vec![1], ..of_shells(Some(false)) };
    let of_init = own.treated_by(&[RuleOptions { executables: Vec::new(), ..all }], &general).unwrap();
    assert_eq!(name(&of_init, &process), None);
    shell.kill().unwrap();
    shell.wait().unwrap();
}
