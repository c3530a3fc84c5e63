//! One job and its exits.

use warren_overlay::{
    answer::Answer,
    id::{LinkNo, TunnelId},
};

use super::*;

const JOB: JobNo = JobNo(7);
const END: EndNo = EndNo(3);

fn at(seconds: u64) -> Now {
    Now { time: Time::ZERO + Duration::from_secs(seconds), ..Now::default() }
}

fn tunnel(no: u32) -> OwnTunnelName {
    (LinkNo(1), TunnelId(no))
}

fn told(machine: &mut Transfers, now: Now, input: JobInput) -> Vec<TransfersOutput> {
    machine.handle_input(now, TransfersInput::Job { job: JOB, end: END, input });
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn ready(machine: &mut Transfers, no: u32, router: u8) -> Vec<TransfersOutput> {
    ends_at(machine, no, router, true)
}

fn ends_at(machine: &mut Transfers, no: u32, router: u8, works: bool) -> Vec<TransfersOutput> {
    let last = Last { router: RouterId([router; 32]), takes_work: works };
    let input = TransfersInput::TunnelReady { end: END, tunnel: tunnel(no), last };
    machine.handle_input(at(1), input);
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn old(machine: &mut Transfers, no: u32, router: u8) -> Vec<TransfersOutput> {
    ends_at(machine, no, router, false)
}

/// A job that wants this many exits.
fn job(want: usize, hops: Option<u8>) -> (Transfers, Vec<TransfersOutput>) {
    let mut machine = Transfers::default();
    told(&mut machine, at(0), JobInput::Begin { hops, cached: false });
    let asked = told(&mut machine, at(0), JobInput::Exits { want });
    (machine, asked)
}

fn events(outputs: &[TransfersOutput]) -> Vec<String> {
    let events = outputs.iter().filter_map(|output| match output {
        TransfersOutput::Event { event, .. } => Some(format!("{event:?}")),
        _ => None,
    });
    events.collect()
}

#[test]
fn no_two_exits_of_a_job_end_at_one_router() {
    let (mut machine, asked) = job(2, None);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(events(&ready(&mut machine, 1, 9)), ["ExitUp(ExitNo(1))"]);
    let again = ready(&mut machine, 2, 9);
    assert!(
        matches!(
            again.as_slice(),
            [
                TransfersOutput::DropTunnel { tunnel: (_, TunnelId(2)), .. },
                TransfersOutput::Take { .. }
            ]
        ),
        "{again:?}"
    );
    assert_eq!(events(&ready(&mut machine, 3, 8)), ["ExitUp(ExitNo(2))"]);
    assert_eq!(machine.poll_timeout(), None, "it has what it wants");
}

#[test]
fn a_network_of_few_routers_is_said_to_have_no_more_exits() {
    let (mut machine, _) = job(3, None);
    ready(&mut machine, 1, 9);
    for no in 2..5 {
        assert!(events(&ready(&mut machine, no, 9)).is_empty());
    }
    let last = ready(&mut machine, 5, 9);
    assert_eq!(events(&last), ["NoMoreExits"]);
    assert!(!last.iter().any(|output| matches!(output, TransfersOutput::Take { .. })));
}

#[test]
fn who_waits_for_exits_is_told_after_a_while_and_once() {
    let (mut machine, _) = job(3, None);
    assert_eq!(machine.poll_timeout(), Some(at(15).time));
    machine.handle_timeout(at(14));
    assert!(machine.poll_output().is_none());
    machine.handle_timeout(at(15));
    assert!(matches!(
        machine.poll_output(),
        Some(TransfersOutput::Event { event: JobEvent::NoMoreExits, .. })
    ));
    machine.handle_timeout(at(16));
    assert!(machine.poll_output().is_none() && machine.poll_timeout().is_none());
}

#[test]
fn a_job_with_hops_of_its_own_wants_them_together() {
    let (_, asked) = job(3, Some(1));
    assert!(
        matches!(asked.as_slice(), [TransfersOutput::WantHops { count: 3, hops: 1, .. }]),
        "{asked:?}"
    );
}

#[test]
fn answers_find_their_asks_until_the_exit_is_gone() {
    let (mut machine, _) = job(1, None);
    ready(&mut machine, 1, 9);
    let request = JobRequest::GetBlock(BlockAddress([1; 32]), Class::Bulk);
    let mut numbers = Vec::new();
    for ask in [40, 41] {
        let input = JobInput::Ask { ask, exit: ExitNo(1), request: request.clone() };
        for output in told(&mut machine, at(1), input) {
            let TransfersOutput::End { input: EndInput::Request { clove, .. }, .. } = output else {
                panic!("{output:?}");
            };
            numbers.push(clove.request().unwrap());
        }
    }
    let answer = |request| {
        let event = EndEvent::Block { request, asked: 5, answer: Some(Answer::NotFound) };
        TransfersInput::End { end: END, event }
    };
    machine.handle_input(at(2), answer(numbers[1]));
    assert!(matches!(
        machine.poll_output(),
        Some(TransfersOutput::Event { event: JobEvent::Answer { ask: 41, routers: 5, .. }, .. })
    ));
    machine.handle_input(at(3), TransfersInput::TunnelGone { end: END, tunnel: tunnel(1) });
    machine.handle_input(at(3), answer(numbers[0]));
    let rest: Vec<_> = std::iter::from_fn(|| machine.poll_output()).collect();
    assert_eq!(events(&rest), ["ExitGone(ExitNo(1))"]);
    let input = JobInput::Ask { ask: 42, exit: ExitNo(1), request };
    let unanswered = told(&mut machine, at(4), input);
    assert_eq!(events(&unanswered), ["Answer { ask: 42, routers: 0, answer: None }"]);
}

#[test]
fn jobs_are_bounded_and_end_with_all_they_have() {
    let mut machine = Transfers::default();
    for no in 0..=JOBS_MAX {
        let (job, end) = (JobNo(no as u64), EndNo(u32::try_from(no).unwrap()));
        let input = JobInput::Begin { hops: None, cached: false };
        machine.handle_input(at(0), TransfersInput::Job { job, end, input });
    }
    let outputs: Vec<_> = std::iter::from_fn(|| machine.poll_output()).collect();
    assert_eq!(events(&outputs), ["Refused"]);
    assert_eq!(machine.jobs.len(), JOBS_MAX);
    let input = JobInput::End;
    machine.handle_input(at(0), TransfersInput::Job { job: JobNo(5), end: EndNo(0), input });
    assert!(matches!(machine.poll_output(), Some(TransfersOutput::DropEnd { end: EndNo(5) })));
    assert!(!machine.holds(EndNo(5)) && machine.jobs.len() == JOBS_MAX - 1);
}

#[test]
fn what_was_fetched_here_before_is_not_asked_for_again() {
    let mut machine = Transfers::default();
    told(&mut machine, at(0), JobInput::Begin { hops: None, cached: true });
    told(&mut machine, at(0), JobInput::Exits { want: 1 });
    ready(&mut machine, 1, 9);
    let block = Block::copy_from(&vec![4; 32_768]).unwrap();
    let (exit, what) = (ExitNo(1), (block.address(), Class::Bulk));
    let request = JobRequest::GetBlock(what.0, what.1);
    let input = |ask| JobInput::Ask { ask, exit, request: request.clone() };
    let looks = told(&mut machine, at(1), input(1));
    let look = |outputs: Vec<TransfersOutput>| match outputs.as_slice() {
        [TransfersOutput::Look { look, .. }] => *look,
        other => panic!("{other:?}"),
    };
    machine.looked(at(2).time, JOB, look(looks), None);
    let Some(TransfersOutput::End { input: EndInput::Request { clove, .. }, .. }) =
        machine.poll_output()
    else {
        panic!("it is asked for");
    };
    let request_no = clove.request().unwrap();
    let answer = Some(Answer::Found(block.clone()));
    let event = EndEvent::Block { request: request_no, asked: 5, answer };
    machine.handle_input(at(2), TransfersInput::End { end: END, event });
    let kept = machine.poll_output();
    assert!(matches!(kept, Some(TransfersOutput::Keep { block: it }) if it == block));
    machine.poll_output();
    let again = look(told(&mut machine, at(3), input(2)));
    machine.looked(at(2).time, JOB, again, Some(block));
    assert!(matches!(
        machine.poll_output(),
        Some(TransfersOutput::Event { event: JobEvent::Answer { ask: 2, routers: 0, .. }, .. })
    ));
    assert!(machine.poll_output().is_none());
}

#[test]
fn who_renews_a_pin_is_told_which_blocks_the_network_lost() {
    let (mut machine, _) = job(1, None);
    ready(&mut machine, 1, 9);
    told(&mut machine, at(1), JobInput::Pin { renew: true });
    let block = Block::copy_from(&vec![4; 32_768]).unwrap();
    let get = JobRequest::GetBlock(block.address(), Class::Bulk);
    let asked = told(&mut machine, at(1), JobInput::Ask { ask: 1, exit: ExitNo(1), request: get });
    let [TransfersOutput::End { input: EndInput::Request { clove, .. }, .. }] = asked.as_slice()
    else {
        panic!("the network is asked first: {asked:?}");
    };
    let request = clove.request().unwrap();
    let event = EndEvent::Block { request, asked: 5, answer: Some(Answer::NotFound) };
    machine.handle_input(at(2), TransfersInput::End { end: END, event });
    let Some(TransfersOutput::Look { look, .. }) = machine.poll_output() else { panic!() };
    machine.looked(at(2).time, JOB, look, Some(block));
    let out: Vec<_> = std::iter::from_fn(|| machine.poll_output()).collect();
    assert!(
        matches!(
            out.as_slice(),
            [TransfersOutput::Event {
                event: JobEvent::Answer { ask: 1, routers: 5, answer: Some(JobAnswer::Pinned(_)) },
                ..
            }]
        ),
        "its owner is told, and waits until it is stored: {out:?}"
    );
}

#[test]
fn blocks_are_put_through_no_router_of_an_older_version_and_where_all_are_old_that_is_said() {
    let (mut machine, _) = job(1, None);
    assert_eq!(
        events(&old(&mut machine, 1, 9)),
        ["ExitUp(ExitNo(1))"],
        "it can be asked for blocks"
    );
    let get = JobRequest::GetBlock(BlockAddress([1; 32]), Class::Bulk);
    let asked = told(&mut machine, at(1), JobInput::Ask { ask: 1, exit: ExitNo(1), request: get });
    assert!(matches!(asked.as_slice(), [TransfersOutput::End { .. }]), "{asked:?}");

    let block = Block::copy_from(&vec![7; 32_768]).unwrap();
    let put = JobRequest::PutBlock(block, Class::Bulk);
    let asked = told(&mut machine, at(1), JobInput::Ask { ask: 2, exit: ExitNo(1), request: put });
    assert_eq!(events(&asked)[..1], ["ExitGone(ExitNo(1))"]);
    assert!(asked.iter().any(|it| matches!(it, TransfersOutput::Take { .. })), "{asked:?}");
    // Another old one is drawn again as well, until there were too many.
    assert_eq!(events(&old(&mut machine, 2, 8)), ["TooOld"]);
    // One that takes work is an exit as ever.
    assert_eq!(events(&ready(&mut machine, 3, 7)), ["ExitUp(ExitNo(2))"]);
}
