//! One record, found or stored through tunnels of its own.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use warren_overlay::garlic::RecordAnswer;

use super::{FileError, link::Link};
use crate::node::{JobAnswer, JobEvent, JobInput, JobRequest};

/// How long it takes at most, tunnels included.
const LIMIT: Duration = Duration::from_secs(30);
/// Tunnels that are tried: a dead one's answer does not come.
const EXITS: usize = 2;

/// Asks once; through another exit where one goes before it has answered.
pub(super) async fn ask(
    mut link: Link,
    request: JobRequest,
) -> Result<(u8, RecordAnswer), FileError> {
    let run = async {
        link.begin(false).await?;
        link.say(JobInput::Exits { want: EXITS }).await?;
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
                JobEvent::Answer { .. } | JobEvent::NoMoreExits | JobEvent::NotPinned => {}
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
    timeout_at(Instant::now() + LIMIT, run).await.unwrap_or(Err(FileError::NoRoute { routers: 0 }))
}
