//! Reads records from the kernel in batches: woken by amount or by timer, not once per record.

use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError, RingBuf};
use onlooker_common::reader;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::backlog::Backlog;

/// How long records may wait in the ring during traffic, if the kernel programs need what the agent learns from them.
const PROMPT_INTERVAL: Duration = Duration::from_millis(10);
/// The same if they do not. Each wake-up finds cold caches, so few large batches cost less than many small ones.
const RELAXED_INTERVAL: Duration = Duration::from_millis(20);
/// How long the agent sleeps without traffic. It is the longest that a record waits if its wake-up came between the last
/// read and the sleep.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);

/// If records were processed for this long and there are more, the others are copied out of the ring. Time is counted, not
/// records: while other threads have the processors, few records take long, and the ring fills. At 100,000 requests a second
/// the records of one wake-up take less, so nothing is copied.
const BETWEEN_SWEEPS: Duration = Duration::from_millis(4);
/// The clock is read once for this many records. A long record of pipelined requests takes half a millisecond.
const BETWEEN_CLOCK_READINGS: usize = 8;

/// How long the reader may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// There is traffic, and the kernel programs need to know which requests are complete.
    Prompt,
    /// There is traffic, and the kernel programs need nothing.
    Relaxed,
    /// There is no traffic. The next record wakes the reader.
    Idle,
}

/// The consuming end of the ring.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    backlog: Backlog,
    /// The state of this reader, for the kernel programs.
    state: Array<MapData, u32>,
}

impl Ring {
    /// Must be called within a tokio runtime, like `wait`.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        let mut take = |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        let ring: RingBuf<MapData> = take("EVENTS")?.try_into()?;
        // SAFETY: the map owns its descriptor and keeps it open and the same until it is dropped, with the AsyncFd.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| MapError::IoError(std::io::Error::other(error)))?;
        Ok(Self { ring, backlog: Backlog::default(), state: take("READER")?.try_into()? })
    }

    /// Passes records to `each` until none is left, or until `most` were passed. Returns how many were passed.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut records = 0;
        let mut swept = Instant::now();
        while records < most && self.pass(&mut each) {
            records += 1;
            if records % BETWEEN_CLOCK_READINGS == 0 && swept.elapsed() >= BETWEEN_SWEEPS {
                self.sweep();
                swept = Instant::now();
            }
        }
        records
    }

    /// Passes the oldest record to `each`. Returns false if there is none.
    fn pass(&mut self, each: &mut impl FnMut(&[u8])) -> bool {
        if self.backlog.pop(&mut *each) {
            return true;
        }
        let Some(record) = self.ring.get_mut().next() else { return false };
        each(&record);
        true
    }

    /// Makes room in the ring.
    fn sweep(&mut self) {
        while !self.backlog.is_full()
            && let Some(record) = self.ring.get_mut().next()
        {
            self.backlog.push(&record);
        }
    }

    /// Waits until it is worth reading again.
    pub async fn wait(&mut self, patience: Patience) -> std::io::Result<()> {
        if patience == Patience::Idle {
            // From now on the next record wakes the agent.
            self.state.set(0, reader::ASLEEP, 0).map_err(std::io::Error::other)?;
        }
        let interval = match patience {
            Patience::Prompt => PROMPT_INTERVAL,
            Patience::Relaxed => RELAXED_INTERVAL,
            Patience::Idle => IDLE_INTERVAL,
        };
        // Readiness is edge-triggered: records that are still in the ring do not signal again.
        let woken = async {
            self.ring.readable().await?.clear_ready();
            Ok(())
        };
        let Ok(woken) = timeout(interval, woken).await else { return Ok(()) };
        // From now on the agent can be woken early again.
        self.state.set(0, reader::AWAKE, 0).map_err(std::io::Error::other)?;
        woken
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}
