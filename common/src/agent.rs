//! What the agent is doing: the one word by which it and the kernel side agree on who wakes whom.

/// It looks at the ring by timer, soon.
pub const AWAKE: u32 = 0;
/// It waits until it is woken. It says so itself; the next record wakes it and sets `AWAKE`.
pub const ASLEEP: u32 = 1;
/// It was woken before its time because much was waiting, and is on its way. It sets `AWAKE` itself.
pub const CALLED: u32 = 2;
