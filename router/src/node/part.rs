//! A machine of the node, and whether anything can have changed in it.
//!
//! Lives here: asking for outputs and times only where somebody spoke to the machine since it was asked
//! last. Does not live here: what the machines say (`wiring.rs`).
//!
//! Most of what comes to a node is for one of its machines, and the others' answers stay as they were.
//! Whoever changes a machine comes through `deref_mut`, so none can be forgotten.

use std::ops::{Deref, DerefMut};

use warren_datastore::{Holder, HolderOutput};
use warren_overlay::{
    ring::{self, Ring},
    time::{Time, earliest},
    tunnel::{
        pools::{Pools, PoolsOutput},
        transit::{Transit, TransitOutput},
    },
};

use super::{
    Node,
    contexts::{Contexts, ContextsOutput},
    exits::{Exits, ExitsOutput},
    inquiries::{Inquiries, InquiriesOutput},
    links::{Links, LinksOutput},
    probes::{Probes, ProbesOutput},
    reach::{Ask, Reach},
    services::{Services, ServicesOutput},
    transfers::{Transfers, TransfersOutput},
};

/// What the node asks of each of its machines.
pub(super) trait Machine {
    /// What it has to say.
    type Output;

    /// The next of it.
    fn output(&mut self) -> Option<Self::Output>;

    /// When to wake it.
    fn wake(&self) -> Option<Time>;
}

macro_rules! machines {
    ($($machine:ty => $output:ty),* $(,)?) => {$(
        impl Machine for $machine {
            type Output = $output;

            fn output(&mut self) -> Option<$output> {
                self.poll_output()
            }

            fn wake(&self) -> Option<Time> {
                self.poll_timeout()
            }
        }
    )*};
}

machines! {
    Links => LinksOutput,
    Reach => Ask,
    Ring => ring::Output,
    Holder => HolderOutput,
    Transit => TransitOutput,
    Exits => ExitsOutput,
    Inquiries => InquiriesOutput,
    Pools => PoolsOutput,
    Contexts => ContextsOutput,
    Services => ServicesOutput,
    Probes => ProbesOutput,
    Transfers => TransfersOutput,
}

/// One machine.
#[derive(Debug)]
pub(super) struct Part<M> {
    machine: M,
    /// Somebody had it in hand since it said that it has nothing more to say.
    spoken_to: bool,
    /// When it wanted to be woken then.
    wake: Option<Time>,
}

impl<M> From<M> for Part<M> {
    fn from(machine: M) -> Self {
        Self { machine, spoken_to: true, wake: None }
    }
}

impl<M> Deref for Part<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M> DerefMut for Part<M> {
    fn deref_mut(&mut self) -> &mut M {
        self.spoken_to = true;
        &mut self.machine
    }
}

impl<M: Machine> Part<M> {
    /// The next thing that the machine has to say.
    pub(super) fn say(&mut self) -> Option<M::Output> {
        if !self.spoken_to {
            return None;
        }
        let output = self.machine.output();
        if output.is_none() {
            self.spoken_to = false;
            self.wake = self.machine.wake();
        }
        output
    }

    /// When to wake it.
    fn wake(&self) -> Option<Time> {
        if self.spoken_to { self.machine.wake() } else { self.wake }
    }
}

impl Node {
    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        earliest([
            self.ring.wake(),
            self.holder.wake(),
            self.transit.wake(),
            self.exits.wake(),
            self.pools.wake(),
            self.contexts.wake(),
            self.services.wake(),
            self.probes.wake(),
            self.transfers.wake(),
            self.inquiries.wake(),
            self.links.wake(),
            self.reach.wake(),
            self.friends.poll_timeout(),
            Some(self.renew_at),
            Some(self.awake_at),
            Some(self.save_at),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says so many things, and then wants to be woken.
    #[derive(Debug)]
    struct Talker(u64);

    impl Machine for Talker {
        type Output = u64;

        fn output(&mut self) -> Option<u64> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0)
        }

        fn wake(&self) -> Option<Time> {
            Some(Time::from_micros(self.0))
        }
    }

    #[test]
    fn whoever_was_spoken_to_is_asked_again() {
        let mut part = Part::from(Talker(2));
        assert_eq!(part.wake(), Some(Time::from_micros(2)));
        assert_eq!([part.say(), part.say(), part.say()], [Some(1), Some(0), None]);
        assert_eq!(part.wake(), Some(Time::ZERO));
        part.0 = 7;
        assert_eq!(part.wake(), Some(Time::from_micros(7)));
        assert_eq!(part.say(), Some(6));
    }
}
