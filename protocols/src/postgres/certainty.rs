//! Whether it can be said which response belongs to which request, once responses were not captured.
//!
//! It can while the client waits for its answers before it sends more. Where it has been seen not to, nothing is told
//! after a loss until one turn of requests was answered by as many `ReadyForQuery`.

#[derive(Debug, Default)]
pub(super) struct Certainty {
    /// The client was seen to send requests while those of an earlier run were open.
    pipelines: bool,
    /// Runs don't tell either of a client that reads in one thread what it asks in another.
    distrusts_runs: bool,
    doubt: bool,
    /// Points of synchronisation in the last run of requests, and of responses.
    requested: u32,
    answered: u32,
}

impl Certainty {
    /// A run of requests begins; the one before is judged.
    pub(super) fn request_run(&mut self, all_answered: bool) {
        self.doubt &= !(all_answered && self.requested > 0 && self.requested == self.answered);
        self.requested = 0;
    }

    pub(super) fn response_run(&mut self) {
        self.answered = 0;
    }

    pub(super) fn synced(&mut self) {
        self.requested += 1;
    }

    pub(super) fn ready(&mut self) {
        self.answered += 1;
    }

    pub(super) fn does_not_wait(&mut self) {
        self.pipelines = true;
    }

    pub(super) fn distrust_runs(&mut self) {
        self.distrusts_runs = true;
    }

    pub(super) fn distrusts_runs(&self) -> bool {
        self.distrusts_runs
    }

    /// Responses were not captured.
    pub(super) fn lose(&mut self) {
        self.doubt |= self.pipelines;
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt
    }
}
