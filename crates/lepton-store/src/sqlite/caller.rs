//! Whether the thread that calls may wait for the disk.
//!
//! A worker of a runtime of many threads may: it hands its other tasks to another one first. That costs
//! less than giving the work to a thread of its own and waiting for the answer, twice a turn of the
//! processor. The one thread of a runtime without others may not.

use tokio::runtime::{Handle, RuntimeFlavor};

pub(super) fn may_wait() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}
