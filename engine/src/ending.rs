//! How and when a connection ends.

use onlooker_protocols::Close;

/// What is known of a connection's end, before everything that came before it has been delivered.
#[derive(Debug, Default)]
pub(crate) struct Lifetime {
    /// The process that used the connection last has ended.
    has_exited: bool,
    /// Both directions were over before that process ended.
    was_finished: bool,
    ending: Option<Ending>,
}

/// A connection's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) why: Close,
    pub(crate) time: u64,
    /// Where the received and the sent bytes end; 0 where that is unknown.
    pub(crate) positions: [u64; 2],
    /// The received bytes before this position may still be read.
    arrived: u64,
}

impl Ending {
    /// Whether nothing more will be read that came before the end. `next` is the position of the next byte to read.
    fn was_read(&self, next: Option<u64>) -> bool {
        next.is_none_or(|next| next >= self.arrived)
    }
}

impl Lifetime {
    pub(crate) fn has_exited(&self) -> bool {
        self.has_exited
    }

    /// Whether the end of its process ends the connection: the kernel closes the sockets of a process that ends.
    pub(crate) fn ends_by_exit(&self) -> bool {
        self.has_exited && !self.was_finished
    }

    /// This end sent its FIN and receives no more. If its process has ended, the kernel did that.
    pub(crate) fn finished_both(&mut self) {
        self.was_finished |= !self.has_exited;
    }

    /// The connection ends once its held segments have been delivered.
    pub(crate) fn close(&mut self, why: Close, time: u64) {
        self.ending.get_or_insert(Ending { why, time, positions: [0; 2], arrived: 0 });
    }

    /// The kernel reports the end: where each way ended, and how far the received bytes may still be read.
    pub(crate) fn closed(&mut self, why: Close, time: u64, positions: [u64; 2], arrived: u64) {
        let why = if why == Close::Normal && self.ends_by_exit() { Close::ProcessExit } else { why };
        let arrived = if self.has_exited { 0 } else { arrived };
        self.ending = Some(Ending { why, time, positions, arrived });
    }

    /// The socket is gone: unread bytes will never be read.
    pub(crate) fn destroyed(&mut self, positions: [u64; 2]) {
        if let Some(ending) = &mut self.ending {
            // Of MPTCP only the end is known then.
            if positions != [0; 2] {
                ending.positions = positions;
            }
            ending.arrived = 0;
        }
    }

    /// The process that used the connection last has ended.
    pub(crate) fn process_ended(&mut self) {
        self.has_exited = true;
        if let Some(ending) = &mut self.ending {
            ending.arrived = 0;
        }
    }

    /// Another process uses the connection after one has ended.
    pub(crate) fn used_by_another(&mut self) {
        self.has_exited = false;
        self.ending = self.ending.filter(|ending| ending.why != Close::ProcessExit);
    }

    /// Whether the connection ends, and all that will be read has been read.
    pub(crate) fn is_ending(&self, next: Option<u64>) -> bool {
        self.ending.is_some_and(|ending| ending.was_read(next))
    }

    /// The end, if it was `hold` ago and all that will be read has been read. Segments from before the end may come from
    /// other processors until then.
    pub(crate) fn due(&self, now: u64, hold: u64, next: Option<u64>) -> Option<Ending> {
        self.ending.filter(|ending| now.saturating_sub(ending.time) >= hold && ending.was_read(next))
    }
}
