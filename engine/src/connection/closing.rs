//! How a connection ends: each way by itself, by an end that the kernel reports, or with its process.

use onlooker_protocols::{Close, Direction, End, Finding, Moment};

use super::Connection;
use crate::content::Content;
use crate::ending::Ending;
use crate::observer::{Observer, Report};
use crate::order::Way;

impl Connection {
    /// The socket that carries the stream has received all that will come.
    pub(crate) fn input_finished(&mut self, time: u64, observer: &mut dyn Observer) {
        if !self.order.is_holding() {
            self.end_way(Way::Received, time, observer);
        }
    }

    pub(super) fn end_way(&mut self, way: Way, time: u64, observer: &mut dyn Observer) {
        if !self.order.end(way) {
            return;
        }
        let at = self.order.moment(way, time);
        if let (Some(direction), Content::Parsed(parser)) = (self.conversation.direction(way), &mut self.content) {
            parser.end(direction, at, &mut self.found);
        }
        if self.lifetime.ends_by_exit() {
            for finding in &mut self.found {
                if let Finding::Exchange(exchange) = finding
                    && let End::Closed(why @ Close::Normal, _) = &mut exchange.end
                {
                    *why = Close::ProcessExit;
                }
            }
        }
        self.report(at, observer);
    }

    /// This end sent its FIN at `time`.
    pub(crate) fn finished(&mut self, time: u64, observer: &mut dyn Observer) {
        // Held segments come before it. The connection's end will report it again.
        if !self.order.is_holding() {
            self.end_way(Way::Sent, time, observer);
        }
    }

    /// This end sent its FIN at `time`, and receives no more.
    pub(crate) fn finished_both(&mut self, time: u64, observer: &mut dyn Observer) {
        self.lifetime.finished_both();
        self.finished(time, observer);
    }

    /// The connection ends once its held segments have been delivered.
    pub(crate) fn closing(&mut self, why: Close, time: u64) {
        self.lifetime.close(why, time);
    }

    /// The kernel reports the end: where each way ended, and how far the received bytes may still be read.
    pub(crate) fn closed(&mut self, why: Close, time: u64, positions: [u64; 2], arrived: u64) {
        self.order.start_at(Way::Received, positions[Way::Received as usize]);
        self.lifetime.closed(why, time, positions, arrived);
    }

    /// The socket is gone: unread bytes will never be read.
    pub(crate) fn destroyed(&mut self, positions: [u64; 2]) {
        self.lifetime.destroyed(positions);
    }

    /// The process that used the connection last has ended. Another process may have the connection too.
    pub(crate) fn process_ended(&mut self, time: u64) {
        self.lifetime.process_ended();
        if self.is_unix || self.stream.is_some() {
            self.closing(Close::ProcessExit, time);
        }
    }

    /// Lets time pass. Returns whether the connection is over.
    pub(crate) fn advance(&mut self, now: u64, hold: u64, observer: &mut dyn Observer) -> bool {
        self.let_through(now, hold, observer);
        if self.order.is_holding() {
            return false;
        }
        let next = self.order.next(Way::Received);
        let Some(Ending { why, time, positions, .. }) = self.lifetime.due(now, hold, next) else { return false };
        for way in Way::BOTH {
            self.skip_to(way, positions[way as usize], observer);
        }
        if why == Close::Normal {
            self.end_way(Way::Sent, time, observer);
        }
        self.close(why, time, observer);
        true
    }

    /// Ends the connection at once, and forgets it.
    pub(crate) fn end(mut self, why: Close, time: u64, observer: &mut dyn Observer) {
        if !self.advance(u64::MAX, 0, observer) {
            self.close(why, time, observer);
        }
        self.forget(observer);
    }

    /// The process that uses the connection is not recorded any more. Its open requests end, and the connection is forgotten.
    pub(crate) fn deselect(mut self, time: u64, observer: &mut dyn Observer) {
        if !self.advance(u64::MAX, 0, observer) {
            self.counters.requests_deselected.add(self.open_requests() as u64);
            self.close(Close::Deselected, time, observer);
        }
        self.forget(observer);
    }

    pub(crate) fn forget(mut self, observer: &mut dyn Observer) {
        if self.has_unknown {
            self.counters.connections_unknown.add(1);
        }
        self.count_bytes();
        observer.observe(self.conversation.place(Direction::ToServer), Report::Forgotten);
    }

    pub(super) fn close(&mut self, why: Close, time: u64, observer: &mut dyn Observer) {
        let at = Moment { run: self.order.newest_run(), ..self.order.moment(Way::Sent, time) };
        if let Content::Parsed(parser) = &mut self.content {
            parser.close(why, at, &mut self.found);
        }
        self.report(at, observer);
    }
}
