use super::*;

/// A request named by the position of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request(Moment);

impl Open for Request {
    const SHARED: bool = false;
    const BATCHED: bool = true;
    const LIMIT: usize = 4;

    fn start(&self) -> Moment {
        self.0
    }

    fn last_run(&self) -> u32 {
        self.0.run
    }
}

/// A queue, and the requests that it lost.
struct Queue {
    queue: InOrder<Request>,
    lost: Vec<u64>,
    next: u64,
    /// The run of the last response.
    responded: u32,
}

impl Queue {
    fn new() -> Self {
        Self { queue: InOrder::new(true), lost: Vec::new(), next: 0, responded: 0 }
    }

    /// Requests in one run, named by their numbers.
    fn requests(mut self, run: u32, count: u64) -> Self {
        self.queue.request_run(at(run), 0);
        for _ in 0..count {
            self.queue.push(Request(Moment { position: self.next, ..at(run) }));
            self.next += 1;
        }
        self
    }

    /// A hole in the requests, which begins in `run`.
    fn hole(mut self, run: u32) -> Self {
        assert!(self.queue.push_unseen(0, run));
        self
    }

    /// A response in `run`, and what it answers.
    fn response(&mut self, run: u32) -> (Answer, Option<u64>) {
        if std::mem::replace(&mut self.responded, run) != run {
            self.queue.response_run(at(run));
        }
        let lost = &mut |request: Request| self.lost.push(request.0.position);
        if !self.queue.is_locked() && self.queue.match_run(at(run), false, lost) == Matched::Unknown {
            return (Answer::Unknown, None);
        }
        let answer = self.queue.answer(at(run), lost);
        let request = if answer == Answer::Front { self.queue.finish(run) } else { None };
        if request.is_some() {
            self.queue.relock();
        }
        (answer, request.and_then(Entry::into_open).map(|request| request.0.position))
    }
}

fn at(run: u32) -> Moment {
    Moment { run, nanos: u64::from(run), ..Moment::default() }
}

const UNSEEN: (Answer, Option<u64>) = (Answer::Unseen { reported: false }, None);

fn front(request: u64) -> (Answer, Option<u64>) {
    (Answer::Front, Some(request))
}

#[test]
fn responses_answer_in_order_and_then_nothing() {
    let mut queue = Queue::new().requests(0, 3);
    assert_eq!([1, 1, 1, 1].map(|run| queue.response(run)), [front(0), front(1), front(2), UNSEEN]);
}

#[test]
fn after_a_missed_response_the_next_answers_the_last_run_of_requests() {
    let mut queue = Queue::new().requests(0, 1);
    queue.queue.miss_response();
    let mut queue = queue.requests(2, 1);
    assert_eq!((queue.response(3), &*queue.lost), (front(1), &[0][..]));
    assert!(queue.queue.is_locked());
}

#[test]
fn a_response_two_runs_later_answers_a_request_that_was_not_seen() {
    let mut queue = Queue::new().requests(0, 1);
    queue.queue.miss_response();
    assert_eq!((queue.response(3), &*queue.lost), (UNSEEN, &[0][..]));
    // The hole shows before the next request, and its response was counted.
    assert!(!queue.queue.push_unseen(1, 0));
    let mut queue = queue.requests(4, 1);
    queue.queue.miss_response();
    assert_eq!(queue.response(5), front(1));
}

#[test]
fn a_request_that_continues_is_answered_two_runs_later() {
    let mut queue = Queue::new().requests(0, 1);
    queue.queue.miss_response();
    let matched = queue.queue.match_run(at(3), true, &mut |_| {});
    assert_eq!(matched, Matched::Front { older: false, several: false });
}

#[test]
fn requests_that_were_not_seen_may_be_of_the_run_behind_them() {
    let mut queue = Queue::new().requests(0, 1);
    assert_eq!(queue.response(1), front(0));
    let mut queue = queue.hole(0).requests(2, 1);
    assert_eq!((queue.response(3), &*queue.lost), ((Answer::Unseen { reported: true }, None), &[1][..]));
    // From the next run on it is known again.
    let mut queue = queue.requests(4, 1);
    assert_eq!(queue.response(5), front(2));
}

#[test]
fn a_whole_run_that_was_not_seen_was_answered_before_the_next() {
    let mut queue = Queue::new().requests(0, 1);
    assert_eq!(queue.response(1), front(0));
    let mut queue = queue.hole(0).requests(4, 1);
    assert_eq!((queue.response(5), queue.lost.len()), (front(1), 0));
}

#[test]
fn of_a_client_that_pipelines_nothing_is_trusted_after_a_loss_until_a_turn_agrees() {
    let mut queue = Queue::new().requests(0, 1).requests(2, 1);
    assert_eq!(queue.response(3), front(0));
    assert_eq!(queue.queue.client(), Client::Pipelines);
    queue.queue.miss_response();
    let mut queue = queue.requests(4, 1);
    assert_eq!((queue.response(5), &*queue.lost), (front(2), &[1][..]));
    assert!(!queue.queue.is_trusted(), "it may have been the response to 1");
    let queue = queue.requests(6, 1);
    assert!(queue.queue.is_trusted(), "each request of a turn had a response");
}

#[test]
fn requests_before_a_missed_response_may_be_answered_and_later_ones_are_not() {
    let mut queue = Queue::new().requests(0, 1);
    queue.queue.miss_response();
    let mut queue = queue.requests(0, 1);
    let mut closed = Vec::new();
    queue.queue.close(|request, may_be_answered| closed.push((request.0.position, may_be_answered)));
    assert_eq!(closed, [(0, true), (1, false)]);
}

#[test]
fn an_aged_request_keeps_its_place() {
    let mut queue = Queue::new().requests(0, 1).requests(2, 1);
    let mut aged = Vec::new();
    for _ in 0..2 {
        queue.queue.give_up_before(1, |request, may_be_answered| {
            aged.push((request.0.position, may_be_answered));
            None
        });
    }
    assert_eq!(aged, [(0, false)]);
    assert_eq!([3, 3].map(|run| queue.response(run)), [(Answer::Reported, None), front(1)]);
}

#[test]
fn what_finds_no_room_is_counted_with_its_responses() {
    let mut queue = Queue::new().requests(0, Request::LIMIT as u64);
    assert!(queue.queue.is_full());
    queue.queue.push_reported(1, 0);
    queue.queue.push_reported(1, 0);
    assert_eq!(queue.queue.len(), Request::LIMIT + 1);
    let answers: Vec<_> = (0..7).map(|_| queue.response(1).0).collect();
    assert_eq!(answers[..4], [Answer::Front; 4]);
    assert_eq!(answers[4..], [Answer::Reported, Answer::Reported, UNSEEN.0]);
}
