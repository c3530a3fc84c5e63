//! Between a transfer and its tunnels: what it wants in the node's words, what the node says in its.
//!
//! Lives here: the translation, the same for the driver and the simulator. Does not live here: either
//! side (`warren_datastore::transfer`, `node::transfers`).

use warren_datastore::transfer::{Output, Transfer};
use warren_overlay::{garlic::BlockAnswer, ring::Class, time::Time};

use crate::node::{JobAnswer, JobEvent, JobInput, JobRequest};

/// The first blocks of a file are waited for by somebody; from here on it is a long transfer, which
/// gives way to others: 2 MiB.
const INTERACTIVE_ASKS: u64 = 64;

/// Tells a transfer what its job was told; false if there is no room for the job.
pub fn deliver(transfer: &mut dyn Transfer, now: Time, event: JobEvent) -> bool {
    match event {
        JobEvent::Refused | JobEvent::NotPinned | JobEvent::TooOld => return false,
        JobEvent::ExitUp(exit) => transfer.exit_up(now, exit),
        JobEvent::ExitGone(exit) => transfer.exit_gone(now, exit),
        JobEvent::NoMoreExits => transfer.no_more_exits(now),
        JobEvent::Answer { ask, routers, answer } => {
            let answer = match answer {
                Some(JobAnswer::Block(answer)) => Some(answer),
                Some(JobAnswer::Pinned(block)) => Some(BlockAnswer::Found(block)),
                Some(JobAnswer::Record(_)) | None => None,
            };
            transfer.handle_answer(now, ask, routers, answer);
        }
    }
    true
}

/// What a transfer wants of its job next.
pub fn poll_wish(transfer: &mut dyn Transfer) -> Option<JobInput> {
    loop {
        return Some(match transfer.poll_output()? {
            Output::NeedExits { want } => JobInput::Exits { want },
            Output::Get { ask, exit, address } => {
                let class = if ask < INTERACTIVE_ASKS { Class::Interactive } else { Class::Bulk };
                JobInput::Ask { ask, exit, request: JobRequest::GetBlock(address, class) }
            }
            Output::Put { ask, exit, block } => {
                JobInput::Ask { ask, exit, request: JobRequest::PutBlock(block, Class::Bulk) }
            }
            // Its transfer uses it less from here on.
            Output::Suspect { .. } => continue,
        });
    }
}
