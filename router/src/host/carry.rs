//! The mail: from part to part, until nobody has anything more to say.
//!
//! Lives here: asking the parts that were touched for their outputs, and giving each to whom it is for.
//! Does not live here: the parts and what wakes them (`host.rs`), the order of letters (`mail.rs`).

use warren_overlay::{
    id::{EndNo, LinkNo},
    link::{LinkInput, LinkOutput},
    plane::{LinkEvent, Part},
    session::{End, EndInput, EndOutput, Requester},
    time::Now,
};

use super::{
    Host, HostOutput, LinkState,
    mail::{Address, Letter},
};
use crate::{
    app::StreamEvent,
    node::{NodeInput, NodeOutput},
};

impl Host {
    /// Carries mail until nobody has anything more to say.
    pub(super) fn settle(&mut self, now: Now) {
        let mut node = false;
        loop {
            while let Some(address) = self.touched.pop_first() {
                match address {
                    Address::Node => {
                        self.drain_node(now);
                        node = true;
                    }
                    Address::Link(link) => self.drain_link(now, link),
                    Address::End(end) => {
                        self.drain_end(now, end);
                        self.arm(address);
                    }
                }
            }
            match self.mail.next(now.time) {
                Some((to, letter, delayed)) => {
                    self.deliver(now, to, letter);
                    let writable = |no| HostOutput::Stream(no, StreamEvent::Writable);
                    self.out.extend(delayed.map(writable));
                }
                None if self.touched.is_empty() => break,
                None => {}
            }
        }
        // Asking it costs most, and it is spoken to again and again meanwhile.
        if node {
            self.arm(Address::Node);
        }
    }

    /// Letters to parts that are gone are lost, as they are between tasks.
    fn deliver(&mut self, now: Now, to: Address, letter: Letter) {
        match (to, letter) {
            (Address::Link(link), letter) => {
                let Some(LinkState::Up(io)) = self.links.get_mut(&link) else { return };
                match letter {
                    Letter::Part(from, message) => {
                        io.handle_input(now.time, LinkInput::Part { from, message });
                    }
                    Letter::Command(command) => {
                        io.handle_input(now.time, LinkInput::Command(command));
                    }
                    Letter::ToEnd(_) => return,
                }
            }
            (Address::End(no), letter) => {
                let input = match letter {
                    Letter::Part(Part::Link(from), message) => EndInput::Part { from, message },
                    Letter::ToEnd(input) => *input,
                    Letter::Part(..) | Letter::Command(_) => return,
                };
                if let Some(end) = self.ends.get_mut(&no) {
                    end.handle_input(now, input);
                } else if let Some(requester) = self.requesters.get_mut(&no) {
                    requester.handle_input(now, input);
                } else {
                    return;
                }
            }
            // Nobody writes to the node: it is called.
            (Address::Node, _) => return,
        }
        self.touched.insert(to);
    }

    fn drain_link(&mut self, now: Now, link: LinkNo) {
        let me = Address::Link(link);
        let Some(LinkState::Up(io)) = self.links.get_mut(&link) else {
            return self.arm(me);
        };
        while let Some(output) = io.poll_output() {
            match output {
                LinkOutput::Part { to, message } => {
                    let letter = Letter::Part(Part::Link(link), message);
                    self.mail.post(now.time, me, address(to), letter);
                }
                LinkOutput::Node(LinkEvent::Closed(reason)) => {
                    self.offences += u64::from(reason.is_offence());
                    return self.gone(now, link);
                }
                LinkOutput::Node(event) => {
                    self.node.handle_input(now, NodeInput::Link { link, event });
                    self.touched.insert(Address::Node);
                }
            }
        }
        if io.wants_transmit() {
            self.out.push_back(HostOutput::Transmit(link));
        }
        self.deadlines.arm(me, io.poll_timeout());
    }

    fn drain_end(&mut self, now: Now, no: EndNo) {
        loop {
            let end = self.ends.get_mut(&no).and_then(End::poll_output);
            let requester = || self.requesters.get_mut(&no).and_then(Requester::poll_output);
            match end.or_else(requester) {
                None => return,
                Some(EndOutput::Part { to, message }) => {
                    let letter = Letter::Part(Part::End(no), message);
                    self.mail.post(now.time, Address::End(no), Address::Link(to), letter);
                }
                Some(EndOutput::Node(event)) => {
                    self.node.handle_input(now, NodeInput::End { end: no, event });
                    self.touched.insert(Address::Node);
                }
                Some(EndOutput::App(event)) => self.app_event(no, event),
            }
        }
    }

    fn drain_node(&mut self, now: Now) {
        while let Some(output) = self.node.poll_output() {
            match output {
                NodeOutput::Dial { link, contact, also } => {
                    self.links.insert(link, LinkState::Dialling(Box::new(contact)));
                    let (to, also) = (contact.address.socket(), also.map(|it| it.socket()));
                    self.out.push_back(HostOutput::Dial { link, to, also });
                }
                NodeOutput::Link { link, command } => {
                    self.mail.post(
                        now.time,
                        Address::Node,
                        Address::Link(link),
                        Letter::Command(command),
                    );
                }
                NodeOutput::Shut { link } => self.gone(now, link),
                NodeOutput::NewEnd { end, machine } => {
                    self.ends.insert(end, *machine);
                    self.touched.insert(Address::End(end));
                }
                NodeOutput::NewRequester { end, machine } => {
                    self.requesters.insert(end, *machine);
                }
                NodeOutput::End { end, input } => {
                    self.mail.post(
                        now.time,
                        Address::Node,
                        Address::End(end),
                        Letter::ToEnd(input),
                    );
                }
                NodeOutput::DropEnd { end } => {
                    if self.requesters.remove(&end).is_none() {
                        if let Some(end) = self.ends.remove(&end) {
                            self.sessions_broken_before += end.sessions_broken();
                        }
                        self.failing.remove(&end);
                        self.out.push_back(HostOutput::EndGone(end));
                    }
                }
                NodeOutput::Failing { end, failure } => {
                    self.failing.insert(end, failure);
                }
                NodeOutput::Opened { open, result } => {
                    self.out.push_back(HostOutput::Opened { open, result });
                }
                NodeOutput::Job { job, event } => {
                    self.out.push_back(HostOutput::Job { job, event });
                }
                NodeOutput::Save(saved) => self.out.push_back(HostOutput::Save(saved)),
            }
        }
    }
}

fn address(part: Part) -> Address {
    match part {
        Part::Link(link) => Address::Link(link),
        Part::End(end) => Address::End(end),
    }
}
