//! Finds the route of a request's path, and removes credentials from the path.
//!
//! A path is read segment by segment. Words stay; values become placeholders, so that `/users/7` and `/users/8` have the
//! route `/users/{id}`. A credential is `{token}` in the route, and `REDACTED` in the path. Some values look like words, as
//! in `/users/alice`. [`Routes`] recognises them by their number, and bounds the routes of a service.
//!
//! ```
//! use onlooker_engine::model::span::Role;
//! use onlooker_engine::route::{Holds, Routes, redact};
//!
//! let mut routes = Routes::default();
//! let route = routes.learn(Role::Server, "/users/7/orders", true);
//! assert_eq!(route.template, Some("/users/{id}/orders"));
//! assert_eq!(route.holds, Holds::NoSecret);
//! assert_eq!(redact("/reset/f3b0c44298fc1c149a/confirm"), "/reset/REDACTED/confirm");
//! ```

mod kind;
mod learnt;
mod pattern;
mod segment;
mod template;

pub use learnt::{Route, Routes};
pub use pattern::{PathPattern, PatternError};
pub use template::{Holds, redact, template};
