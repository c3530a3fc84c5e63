//! One record, found, stored or watched through tunnels of its own.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use warren_overlay::{
    garlic::RecordAnswer,
    ring::{WATCH_LEASE, Watch},
};

use super::{FileError, link::Link};
use crate::node::{JobAnswer, JobEvent, JobInput, JobRequest};

/// How long it takes at most, tunnels included.
const LIMIT: Duration = Duration::from_secs(30);
/// Tunnels that are tried: a dead one's answer does not come.
const EXITS: usize = 2;

/// Asks once; through another exit where one goes before it has answered.
pub(super) async fn ask(link: Link, request: JobRequest) -> Result<(u8, RecordAnswer), FileError> {
    ask_within(link, request, LIMIT, EXITS).await
}

/// Waits for a record's next version, through one tunnel: when it goes there will be another.
pub(super) async fn watch(link: Link, watch: Watch) -> Result<(u8, RecordAnswer), FileError> {
    ask_within(link, JobRequest::WatchRecord(watch), WATCH_LEASE + LIMIT, 1).await
}

async fn ask_within(
    mut link: Link,
    request: JobRequest,
    limit: Duration,
    exits: usize,
) -> Result<(u8, RecordAnswer), FileError> {
    let run = async {
        link.begin(false).await?;
        link.say(JobInput::Exits { want: exits }).await?;
        let (mut through, mut asks) = (None, 0);
        let mut spare = Vec::new();
        loop {
            match link.next().await? {
                JobEvent::Refused => return Err(FileError::TooMany),
                JobEvent::ExitUp(exit) => spare.push(exit),
                JobEvent::ExitGone(exit) => {
                    spare.retain(|other| *other != exit);
                    through = through.filter(|other| *other != exit);
                }
                JobEvent::Answer { ask, routers, answer } if ask == asks => match answer {
                    Some(JobAnswer::Record(answer)) => return Ok((routers, answer)),
                    _ => through = None,
                },
                JobEvent::Answer { .. }
                | JobEvent::NoMoreExits
                | JobEvent::NotPinned
                | JobEvent::TooOld => {}
            }
            if through.is_none()
                && let Some(exit) = spare.pop()
            {
                asks += 1;
                through = Some(exit);
                link.say(JobInput::Ask { ask: asks, exit, request: request.clone() }).await?;
            }
        }
    };
    timeout_at(Instant::now() + limit, run).await.unwrap_or(Err(FileError::NoRoute { routers: 0 }))
}
