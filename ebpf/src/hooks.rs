//! Entry points: one line each. What differs between them is an argument.

mod epoll;
mod fexit;
mod inject;
mod tracepoints;
mod uprobes;
