//! The terminal or stream that the console sink prints to.

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// The width of lines where the terminal does not report one.
const WIDTH: usize = 120;

/// Where the console sink prints, and in which form.
pub struct Output {
    pub(super) writer: Box<dyn Write + Send>,
    pub(super) colour: bool,
    /// Called for each trace, because windows are resized.
    pub(super) width: Box<dyn Fn() -> usize + Send>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("colour", &self.colour).field("width", &(self.width)()).finish_non_exhaustive()
    }
}

impl Output {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        let width = || rustix::termios::tcgetwinsize(io::stdout()).map_or(WIDTH, |size| columns(size.ws_col));
        Self::to(io::stdout(), width)
    }

    /// Standard error, for `exec`: standard output belongs to the command.
    #[must_use]
    pub fn stderr() -> Self {
        let width = || rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH, |size| columns(size.ws_col));
        Self::to(io::stderr(), width)
    }

    /// Any writer, with lines of `width` columns, with or without colour.
    #[must_use]
    pub fn new(writer: impl Write + Send + 'static, width: usize, colour: bool) -> Self {
        Self { writer: Box::new(writer), colour, width: Box::new(move || width) }
    }

    /// With colour if it is a terminal that supports it, unless the user declines (<https://no-color.org>).
    fn to(stream: impl Write + IsTerminal + Send + 'static, width: impl Fn() -> usize + Send + 'static) -> Self {
        let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colour = stream.is_terminal() && !declined && !dumb;
        Self { writer: Box::new(stream), colour, width: Box::new(width) }
    }
}

/// The reported width. A terminal that does not know it reports 0.
fn columns(reported: u16) -> usize {
    if reported == 0 { WIDTH } else { usize::from(reported) }
}
