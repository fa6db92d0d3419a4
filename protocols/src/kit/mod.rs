//! What several protocols share, and no protocol owns.

pub mod account;
pub(crate) mod ascii;
pub mod by_id;
pub mod certainty;
pub mod follower;
pub mod holes;
pub mod in_order;
pub mod looks;
pub(crate) mod pace;
pub(crate) mod passed_on;
pub mod pieces;
pub(crate) mod positions;
pub(crate) mod tail;
pub(crate) mod target;
