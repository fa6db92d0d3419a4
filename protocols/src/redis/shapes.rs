//! Commands by which detection recognises Redis.

/// A command, with the number of its arguments.
#[derive(Debug)]
pub(super) struct Shape {
    name: &'static str,
    least: u64,
    most: u64,
    /// Nearly every connection uses some of these. So an array that begins with the name is a command, not a reply.
    pub(super) is_common: bool,
}

impl Shape {
    /// Whether the command may have so many arguments.
    pub(super) fn fits(&self, arguments: u64) -> bool {
        (self.least..=self.most).contains(&arguments)
    }
}

/// The command of this name, in any case.
pub(super) fn shape(name: &[u8]) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether a known name begins with these letters.
pub(super) fn may_be_name(letters: &[u8]) -> bool {
    let begins = |name: &[u8]| name.get(..letters.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(letters));
    SHAPES.iter().any(|shape| begins(shape.name.as_bytes()))
}

const ANY: u64 = u64::MAX;

const fn common(name: &'static str, least: u64, most: u64) -> Shape {
    Shape { name, least, most, is_common: true }
}

const fn other(name: &'static str, least: u64, most: u64) -> Shape {
    Shape { name, least, most, is_common: false }
}

/// What people, scripts and health checks send, and the commands of nearly every client.
static SHAPES: &[Shape] = &[
    common("PING", 0, 1),
    other("ECHO", 1, 1),
    other("AUTH", 1, 2),
    common("HELLO", 0, 6),
    other("SELECT", 1, 1),
    other("QUIT", 0, 0),
    other("RESET", 0, 0),
    common("INFO", 0, ANY),
    common("DBSIZE", 0, 0),
    other("TIME", 0, 0),
    other("ROLE", 0, 0),
    other("LASTSAVE", 0, 0),
    other("COMMAND", 0, ANY),
    other("CONFIG", 1, ANY),
    common("CLIENT", 1, ANY),
    other("ACL", 1, ANY),
    other("MEMORY", 1, ANY),
    other("SLOWLOG", 1, ANY),
    other("LATENCY", 1, ANY),
    other("CLUSTER", 1, ANY),
    other("SENTINEL", 1, ANY),
    other("MONITOR", 0, 0),
    other("SAVE", 0, 0),
    other("BGSAVE", 0, 1),
    other("BGREWRITEAOF", 0, 0),
    other("FLUSHDB", 0, 1),
    other("FLUSHALL", 0, 1),
    other("SHUTDOWN", 0, ANY),
    other("REPLICAOF", 2, 2),
    other("SLAVEOF", 2, 2),
    other("SYNC", 0, 0),
    other("PSYNC", 2, 2),
    other("WAIT", 2, 2),
    common("GET", 1, 1),
    common("SET", 2, ANY),
    common("SETEX", 3, 3),
    common("SETNX", 2, 2),
    other("GETSET", 2, 2),
    other("GETDEL", 1, 1),
    common("MGET", 1, ANY),
    common("MSET", 2, ANY),
    common("DEL", 1, ANY),
    other("UNLINK", 1, ANY),
    common("EXISTS", 1, ANY),
    common("EXPIRE", 2, 3),
    common("PEXPIRE", 2, 3),
    common("TTL", 1, 1),
    common("PTTL", 1, 1),
    other("PERSIST", 1, 1),
    other("TYPE", 1, 1),
    other("RENAME", 2, 2),
    other("RENAMENX", 2, 2),
    other("KEYS", 1, 1),
    other("SCAN", 1, ANY),
    other("RANDOMKEY", 0, 0),
    common("INCR", 1, 1),
    common("DECR", 1, 1),
    common("INCRBY", 2, 2),
    other("DECRBY", 2, 2),
    other("INCRBYFLOAT", 2, 2),
    other("APPEND", 2, 2),
    other("STRLEN", 1, 1),
    other("GETRANGE", 3, 3),
    common("HGET", 2, 2),
    common("HSET", 3, ANY),
    common("HDEL", 2, ANY),
    common("HGETALL", 1, 1),
    common("HMGET", 2, ANY),
    common("HMSET", 3, ANY),
    other("HKEYS", 1, 1),
    other("HVALS", 1, 1),
    other("HLEN", 1, 1),
    other("HEXISTS", 2, 2),
    other("HINCRBY", 3, 3),
    common("LPUSH", 2, ANY),
    common("RPUSH", 2, ANY),
    common("LPOP", 1, 2),
    common("RPOP", 1, 2),
    other("LLEN", 1, 1),
    other("LINDEX", 2, 2),
    common("LRANGE", 3, 3),
    other("LTRIM", 3, 3),
    common("BLPOP", 2, ANY),
    common("BRPOP", 2, ANY),
    common("SADD", 2, ANY),
    common("SREM", 2, ANY),
    common("SMEMBERS", 1, 1),
    other("SCARD", 1, 1),
    other("SISMEMBER", 2, 2),
    common("ZADD", 3, ANY),
    other("ZREM", 2, ANY),
    common("ZRANGE", 3, ANY),
    other("ZCARD", 1, 1),
    other("ZSCORE", 2, 2),
    common("XADD", 4, ANY),
    other("XLEN", 1, 1),
    other("XREAD", 3, ANY),
    common("XREADGROUP", 6, ANY),
    other("XRANGE", 3, ANY),
    common("PUBLISH", 2, 2),
    other("SPUBLISH", 2, 2),
    common("SUBSCRIBE", 1, ANY),
    other("PSUBSCRIBE", 1, ANY),
    other("UNSUBSCRIBE", 0, ANY),
    other("PUNSUBSCRIBE", 0, ANY),
    other("PUBSUB", 1, ANY),
    common("MULTI", 0, 0),
    common("EXEC", 0, 0),
    common("DISCARD", 0, 0),
    other("WATCH", 1, ANY),
    other("UNWATCH", 0, 0),
    common("EVAL", 2, ANY),
    common("EVALSHA", 2, ANY),
    other("OBJECT", 1, ANY),
    other("DUMP", 1, 1),
];
