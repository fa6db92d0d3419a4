//! Records from the kernel, taken in bulk: by amount or by timer, not one wake-up each.

use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError, RingBuf};
use onlooker_common::reader;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// How long records may wait in the ring while there is traffic.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);
/// How long the agent sleeps when there is none: the longest that a record waits whose wake-up fell between the last
/// look and the sleep.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);

/// The consuming end of the ring.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    /// What the agent is doing, for the kernel side to know.
    doing: Array<MapData, u32>,
}

impl Ring {
    /// Must be called within a tokio runtime, like `wait`.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        let mut take = |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        let ring: RingBuf<MapData> = take("EVENTS")?.try_into()?;
        // SAFETY: the map owns its descriptor and keeps it open and the same until it is dropped, with the AsyncFd.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| MapError::IoError(std::io::Error::other(error)))?;
        Ok(Self { ring, doing: take("READER")?.try_into()? })
    }

    /// Hands records to `each` until none is left or it has had `most` of them; gives how many it has had.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut records = 0;
        while records < most
            && let Some(record) = self.ring.get_mut().next()
        {
            each(&record);
            records += 1;
        }
        records
    }

    /// Waits until it is worth looking again: `busy` says whether the last look found anything.
    pub async fn wait(&mut self, busy: bool) -> std::io::Result<()> {
        if !busy {
            // From here on the next record wakes us.
            self.doing.set(0, reader::ASLEEP, 0).map_err(std::io::Error::other)?;
        }
        let interval = if busy { BATCH_INTERVAL } else { IDLE_INTERVAL };
        // Readiness is edge-triggered: what was announced once is not announced again while it waits in the ring.
        let woken = async {
            self.ring.readable().await?.clear_ready();
            Ok(())
        };
        let Ok(woken) = timeout(interval, woken).await else { return Ok(()) };
        // So that we can be called again before our time.
        self.doing.set(0, reader::AWAKE, 0).map_err(std::io::Error::other)?;
        woken
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}
