//! The state of the agent's ring reader: the word that decides who wakes it.

/// The reader looks at the ring by a timer.
pub const AWAKE: u32 = 0;
/// The reader waits for a wake-up. The reader sets this; the next record wakes it and sets `AWAKE`.
pub const ASLEEP: u32 = 1;
/// The reader was woken before its timer because the ring was filling up. The reader sets `AWAKE` when it runs.
pub const CALLED: u32 = 2;
