//! The exporters with servers that refuse, wait, misbehave or do not exist.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod sample;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use onlooker::export::Output;
use onlooker_tests::Port;
use onlooker_tests::wait::{until, within};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rstest::rstest;
use sample::{PATIENCE, counted, discarded, send, start};

/// A request that a server received: the lines of its head, its body, and when it was complete.
struct Received {
    head: Vec<String>,
    body: Vec<u8>,
    at: Instant,
}

impl Received {
    /// The ids of its spans.
    fn spans(&self) -> Vec<u64> {
        let request = ExportTraceServiceRequest::decode(&*self.body).unwrap();
        let spans = request.resource_spans.iter().flat_map(|one| &one.scope_spans).flat_map(|one| &one.spans);
        let mut ids: Vec<_> = spans.map(|span| u64::from_be_bytes(span.span_id[..].try_into().unwrap())).collect();
        ids.sort_unstable();
        ids
    }
}

/// An HTTP/1 server that sends these answers, one per connection, and repeats the last one. Returns its URL and the requests.
fn server(answers: Vec<Vec<u8>>) -> (String, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let answer = &answers[index.min(answers.len() - 1)];
            // This fails when the test has ended.
            if sender.send(serve(&stream.unwrap(), answer).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

fn serve(mut stream: &TcpStream, answer: &[u8]) -> io::Result<Received> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let at = Instant::now();
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(Received { head, body, at })
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn to_http(url: &str) -> Vec<(&'static str, &str)> {
    vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_SCHEDULE_DELAY", "1")]
}

#[test]
fn a_request_is_repeated_after_the_time_a_busy_server_asks_for() {
    let (url, received) = server(vec![answer("503 Busy\r\nRetry-After: 1", b""), answer("200 OK", b"")]);
    let mut variables = to_http(&url);
    variables.push(("OTEL_EXPORTER_OTLP_HEADERS", "x-token=s3cret"));
    let (exporting, counters) = start(&variables, discarded());
    send(&exporting, 1, 3);
    let first = received.recv_timeout(PATIENCE).unwrap();
    let second = received.recv_timeout(PATIENCE).unwrap();
    assert!(second.at - first.at >= Duration::from_secs(1), "the server asked for one second");
    exporting.shutdown(PATIENCE);
    assert_eq!(counted(&counters), [3, 0, 0, 0]);
    assert_eq!(counters.export_retries.get(), 1);

    assert_eq!(first.body, second.body);
    let request = ExportTraceServiceRequest::decode(&*second.body).unwrap();
    assert_eq!(request.resource_spans.len(), 2, "one per service");
    assert_eq!(second.head[0], "post /v1/traces http/1.1");
    for header in ["content-type: application/x-protobuf", "x-token: s3cret"] {
        assert!(second.head.iter().any(|line| line == header), "{header} in {:?}", second.head);
    }
    assert!(second.head.iter().any(|line| line.starts_with("user-agent: onlooker/")), "{:?}", second.head);
}

#[rstest]
#[case::refused("400 Bad Request")]
#[case::unauthorised("401 Unauthorized")]
#[case::too_large("413 Content Too Large")]
#[case::elsewhere("307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/")]
fn a_permanently_refused_request_is_not_repeated(#[case] head: &str) {
    let (url, received) = server(vec![answer(head, b"")]);
    let (exporting, counters) = start(&to_http(&url), discarded());
    send(&exporting, 1, 3);
    exporting.shutdown(PATIENCE);
    assert_eq!(counted(&counters), [0, 0, 3, 0]);
    assert_eq!((counters.export_retries.get(), received.iter().take(1).count()), (0, 1));
}

#[rstest]
fn rejected_spans_of_an_accepted_request_are_counted(#[values("http/protobuf", "http/json")] protocol: &str) {
    let body = if protocol == "http/json" {
        br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#.to_vec()
    } else {
        let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
        ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    };
    let (url, _received) = server(vec![answer("200 OK", &body)]);
    let mut variables = to_http(&url);
    variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", protocol));
    let (exporting, counters) = start(&variables, discarded());
    send(&exporting, 1, 5);
    exporting.shutdown(PATIENCE);
    assert_eq!(counted(&counters), [3, 0, 0, 2]);
}

#[test]
fn an_invalid_answer_does_no_harm() {
    let (url, _received) =
        server(vec![answer("200 OK", &[0xff; 100]), b"nonsense\r\n\r\n".to_vec(), answer("200 OK", b"")]);
    let (exporting, counters) = start(&to_http(&url), discarded());
    send(&exporting, 1, 1);
    until(within(PATIENCE), "first span", || Ok((counters.spans_exported.get() == 1).then_some(()))).unwrap();
    send(&exporting, 2, 1);
    exporting.shutdown(PATIENCE);
    assert_eq!(counted(&counters), [2, 0, 0, 0]);
    assert_eq!(counters.export_retries.get(), 1);
}

/// The kernel accepts connections, and nothing answers.
#[rstest]
fn a_server_that_never_answers_costs_bounded_memory_and_counted_spans(
    #[values("grpc", "http/protobuf")] protocol: &str,
) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut variables = to_http(&url);
    variables.extend([("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_BSP_MAX_QUEUE_SIZE", "100")]);
    let (exporting, counters) = start(&variables, discarded());
    for round in 0..50 {
        send(&exporting, 1 + round * 20, 20);
    }
    let start = Instant::now();
    exporting.shutdown(Duration::from_millis(200));
    assert!(start.elapsed() < PATIENCE, "the shutdown does not wait for the server");
    assert_eq!(counted(&counters), [0, 900, 100, 0]);
}

#[test]
fn after_the_export_timeout_spans_are_given_up_and_later_ones_tried() {
    let (url, received) = server(vec![answer("503 Busy", b"")]);
    let mut variables = to_http(&url);
    // Much longer than the first attempt and the pause of up to 100 ms after it, also on a busy machine.
    variables.push(("OTEL_BSP_EXPORT_TIMEOUT", "2000"));
    let (exporting, counters) = start(&variables, discarded());
    send(&exporting, 1, 2);
    for attempt in ["first", "second"] {
        assert_eq!(received.recv_timeout(PATIENCE).expect(attempt).spans(), [1, 2]);
    }
    let given_up = || Ok((counters.spans_dropped_export_failed.get() == 2).then_some(()));
    until(within(PATIENCE), "the export timeout", given_up).unwrap();
    assert!(counters.export_retries.get() >= 1);
    send(&exporting, 3, 2);
    // The last attempt for the first spans may arrive after they were given up.
    while received.recv_timeout(PATIENCE).expect("an attempt for later spans").spans() != [3, 4] {}
    exporting.shutdown(PATIENCE);
    assert_eq!(counted(&counters), [0, 0, 4, 0]);
}

/// An output that can be read.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn the_console_is_the_default_and_shows_a_trace() {
    let screen = Screen::default();
    let (exporting, counters) = start(&[], Output::new(screen.clone(), 100, false));
    send(&exporting, 1, 1);
    until(within(PATIENCE), "trace", || Ok((counters.spans_exported.get() == 1).then_some(()))).unwrap();
    assert!(screen.text().contains("server GET /users/{id}  shop"), "{}", screen.text());
    send(&exporting, 2, 1);
    exporting.shutdown(PATIENCE);
    assert_eq!(screen.text().matches("GET /users/{id}").count(), 2, "the rest is printed at the end");
    assert_eq!(counted(&counters), [2, 0, 0, 0]);
}

#[test]
fn an_unreachable_collector_does_not_delay_the_console_and_spans_count_once() {
    // A port that is claimed and has no listener.
    let unused = Port::claim().unwrap();
    let screen = Screen::default();
    let url = format!("http://{}", unused.address());
    let mut variables = to_http(&url);
    variables.push(("OTEL_TRACES_EXPORTER", "otlp,console"));
    let (exporting, counters) = start(&variables, Output::new(screen.clone(), 100, false));
    send(&exporting, 1, 10);
    let shown = || Ok((screen.text().matches("GET /users/{id}").count() == 10).then_some(()));
    until(within(PATIENCE), "trace on the console", shown).unwrap();
    assert_eq!(counters.spans_judged(), 0, "the collector may still answer");
    exporting.shutdown(Duration::from_millis(100));
    assert_eq!(counted(&counters), [0, 0, 10, 0], "exported means delivered by all exporters");
}

/// A terminal that was closed.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn spans_for_a_closed_console_are_counted_as_failed() {
    let (exporting, counters) = start(&[], Output::new(Closed, 100, false));
    send(&exporting, 1, 3);
    exporting.shutdown(PATIENCE);
    assert_eq!(counted(&counters), [0, 0, 3, 0]);
}

/// A terminal that was stopped with Ctrl-S. A write to it does not return.
struct Stopped(Receiver<()>);

impl Write for Stopped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _test_over = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stopped_terminal_delays_nothing_else() {
    let (_go_on, stopped) = mpsc::channel();
    let variables = [("OTEL_BSP_MAX_QUEUE_SIZE", "10")];
    let (exporting, counters) = start(&variables, Output::new(Stopped(stopped), 100, false));
    send(&exporting, 1, 25);
    exporting.shutdown(Duration::from_millis(100));
    let [exported, queue_full, failed, rejected] = counted(&counters);
    assert_eq!((exported, queue_full + failed, rejected), (0, 25, 0));
}
