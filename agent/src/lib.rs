//! The Onlooker agent: from kernel events to exported spans.
