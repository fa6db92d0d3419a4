//! The accounting of one connection: what was begun and what was reported. The fuzz targets check the same.

use std::collections::BTreeMap;

use onlooker_protocols::{Begun, Direction, Exchange, Finding, Lost, Moment};

/// Panics, naming the finding, as soon as a parser breaks its accounting promise.
#[derive(Debug, Default)]
pub struct Accounts {
    open: BTreeMap<(Direction, u64), Moment>,
    switched: bool,
}

impl Accounts {
    pub fn take(&mut self, findings: &[Finding]) {
        for finding in findings {
            match finding {
                Finding::Begun(Begun { direction, start, .. }) => {
                    let before = self.open.insert((*direction, start.position), *start);
                    assert_eq!(before, None, "begun twice: {finding:?}");
                }
                Finding::Exchange(exchange) => {
                    self.report(exchange.direction, exchange.request_start, finding);
                    check_order(exchange);
                }
                Finding::Lost(Lost { direction, start, .. }) => self.report(*direction, *start, finding),
                Finding::Orphan(_)
                | Finding::CaptureMore(_)
                | Finding::Upgraded(_)
                | Finding::TableNotKept
                | Finding::StatementForgotten => {}
                Finding::SwitchedProtocol => {
                    assert!(!self.switched, "the protocol was switched twice");
                    self.switched = true;
                }
            }
        }
    }

    fn report(&mut self, direction: Direction, start: Moment, finding: &Finding) {
        let begun = self.open.remove(&(direction, start.position));
        assert_eq!(begun, Some(start), "reported but never begun, begun elsewhere, or reported twice: {finding:?}");
    }

    pub fn check_open(&self, open: usize) {
        assert_eq!(open, self.open.len(), "open() does not say what is open: {:?}", self.open);
    }

    pub fn check_closed(&self) {
        assert!(self.open.is_empty(), "begun and never reported: {:?}", self.open);
    }

    pub fn switched(&self) -> bool {
        self.switched
    }
}

/// What any exchange's moments must obey, whatever the protocol.
fn check_order(exchange: &Exchange) {
    let Exchange { request_start, request_end, response_start, response_end, .. } = exchange;
    assert!(request_start.position <= request_end.position, "a request ends before it starts: {exchange:?}");
    assert!(response_end.is_none() || response_start.is_some(), "a response ends that never started: {exchange:?}");
    if let (Some(start), Some(end)) = (response_start, response_end) {
        assert!(start.position <= end.position, "a response ends before it starts: {exchange:?}");
    }
}
