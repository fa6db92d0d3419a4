//! What several protocols share, and no protocol owns.

pub mod by_id;
