//! Messages for several sessions, and what is left of sessions that have ended.

use proptest::prelude::*;

use super::*;

fn shared(sequence: Sequence) -> Place {
    Place { sequence, is_shared: true }
}

fn ended(session: u64) -> Change {
    Change::SessionEnded(SessionNumber(session))
}

#[test]
fn a_message_for_several_goes_with_the_last_of_them() {
    let mut bench = Bench::new(1);
    bench.make([1, 2, 3].map(session));
    let place = shared(bench.make([queued("x", &[1, 2, 3])]));
    for number in [2, 1] {
        bench.make([settled(number, place)]);
        bench.tidy();
        assert_eq!(bench.len(Space::Message), 1);
    }
    assert_eq!(bench.texts(3), ["x"]);
    bench.make([settled(3, place)]);
    assert_eq!((bench.len(Space::Message), bench.len(Space::Queue)), (0, 0));
}

#[test]
fn messages_of_an_earlier_process_are_found_by_a_sweep() {
    for cut in [Cut::Process, Cut::Power] {
        let mut bench = Bench::new(1);
        bench.make([1, 2].map(session));
        let first = bench.make((0..1000).map(|number| queued(&number.to_string(), &[1, 2])));
        bench.make((0..1000).map(|at| settled(1, shared(Sequence(first.0 + at)))));
        let mut bench = bench.restart(cut);
        bench.tidy();
        assert_eq!(bench.len(Space::Message), 1000);
        bench.make((0..500).map(|at| settled(2, shared(Sequence(first.0 + at)))));
        bench.tidy();
        assert_eq!((bench.len(Space::Message), bench.len(Space::Queue)), (500, 500));
        assert_eq!(bench.texts(2)[0], "500");
        bench.make([ended(2)]);
        bench.tidy();
        assert_eq!((bench.len(Space::Message), bench.len(Space::Queue)), (0, 0));
    }
}

#[test]
fn with_little_memory_all_is_found_by_sweeps() {
    let mut bench = Bench::with_memory(100);
    bench.make([1, 2].map(session));
    let first = bench.make((0..300).map(|number| queued(&number.to_string(), &[1, 2])));
    for number in [1, 2] {
        assert_eq!(bench.texts(number).len(), 300);
        bench.make((0..300).map(|at| settled(number, shared(Sequence(first.0 + at)))));
        bench.tidy();
        assert_eq!(bench.len(Space::Message), if number == 1 { 300 } else { 0 });
    }
}

#[test]
fn the_end_of_a_session_is_gone_on_with_after_a_crash() {
    for turns in 0..10 {
        for cut in [Cut::Process, Cut::Power] {
            let mut bench = Bench::new(turns);
            bench.make([1, 2].map(session));
            bench.make((0..1300).map(|number| queued(&number.to_string(), &[1])));
            bench.make((0..10).map(|number| queued(&number.to_string(), &[1, 2])));
            bench.make((1..700).map(|id| flow(1, FlowKey::Inbound(id), Some(FlowState::Received))));
            bench.make([ended(1)]);
            for _ in 0..turns {
                bench.turn();
            }
            let mut bench = bench.restart(cut);
            let mut sessions = Vec::new();
            bench.writer.recovered().sessions(|number, _| sessions.push(number.0)).unwrap();
            assert_eq!(sessions, [2]);
            bench.tidy();
            let left = [Space::Queue, Space::Message, Space::Flow, Space::Meta].map(|space| bench.len(space));
            assert_eq!(left, [10, 10, 0, 1], "after {turns} turns");
            assert_eq!(bench.texts(2).len(), 10);
        }
    }
}

#[test]
fn messages_of_sessions_that_are_not_there_are_removed() {
    let mut bench = Bench::new(1);
    bench.make([session(2)]);
    for number in (1..=200).filter(|number| *number != 2) {
        bench.make([queued("x", &[number]), queued("y", &[number, 2])]);
    }
    // Of this process's sessions the record may come later.
    bench.tidy();
    assert_eq!(bench.len(Space::Queue), 3 * 199);
    let mut bench = bench.restart(Cut::Power);
    bench.tidy();
    assert_eq!((bench.len(Space::Queue), bench.len(Space::Message)), (199, 199));
}

#[test]
fn a_closed_session_is_not_there_and_its_messages_are_until_it_ends() {
    for cut in [Cut::Process, Cut::Power] {
        let mut bench = Bench::new(1);
        bench.make([session(1), queued("x", &[1])]);
        bench.make([Change::SessionClosed(SessionNumber(1))]);
        let mut bench = bench.restart(cut);
        let (mut sessions, mut closed) = (Vec::new(), Vec::new());
        bench.writer.recovered().sessions(|number, _| sessions.push(number)).unwrap();
        bench.writer.recovered().closed(|number| closed.push(number)).unwrap();
        assert_eq!((sessions.len(), &closed[..]), (0, &[SessionNumber(1)][..]));
        bench.tidy();
        assert_eq!(bench.texts(1), ["x"]);
        bench.make([ended(1)]);
        bench.tidy();
        let mut bench = bench.restart(cut);
        bench.writer.recovered().closed(|number| panic!("{number:?}")).unwrap();
        bench.tidy();
        assert_eq!(bench.len(Space::Queue), 0);
    }
}

/// What a process does with some messages of three sessions.
#[derive(Debug, Clone)]
enum Step {
    Queue(Vec<u64>),
    /// The first message of a session is settled.
    Settle(u64),
    End(u64),
    Leisure,
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::sample::subsequence(vec![1, 2, 3], 1..=3).prop_map(Step::Queue),
        4 => (1..4_u64).prop_map(Step::Settle),
        1 => (1..4_u64).prop_map(Step::End),
        2 => Just(Step::Leisure),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn each_session_has_its_messages_and_nothing_else_stays(
        steps in prop::collection::vec(step(), 0..60),
        memory in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        let mut bench = Bench::with_memory(memory);
        // A session that ends begins anew under another number.
        let mut numbers = [0; 4];
        let mut expected: [Vec<(String, Place)>; 4] = Default::default();
        for number in &mut numbers[1..] {
            *number = bench.store.next_session().0;
            bench.make([session(*number)]);
        }
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Queue(sessions) => {
                    let targets: Vec<_> = sessions.iter().map(|&it| numbers[it as usize]).collect();
                    let sequence = bench.make([queued(&at.to_string(), &targets)]);
                    let place = Place { sequence, is_shared: targets.len() > 1 };
                    sessions.iter().for_each(|&it| expected[it as usize].push((at.to_string(), place)));
                }
                Step::Settle(it) if !expected[it as usize].is_empty() => {
                    let (_, place) = expected[it as usize].remove(0);
                    bench.make([settled(numbers[it as usize], place)]);
                }
                Step::Settle(_) => {}
                Step::End(it) => {
                    let new = bench.store.next_session().0;
                    bench.make([ended(numbers[it as usize]), session(new)]);
                    numbers[it as usize] = new;
                    expected[it as usize].clear();
                }
                Step::Leisure => bench.turn(),
                Step::Restart(is_power) => {
                    bench = bench.restart(if is_power { Cut::Power } else { Cut::Process });
                }
            }
        }
        for it in 1..4 {
            let found = bench.texts(numbers[it]);
            prop_assert!(found.iter().eq(expected[it].iter().map(|(text, _)| text)));
        }
        bench.tidy();
        let waiting: usize = expected.iter().map(Vec::len).sum();
        let shared = expected.iter().flatten().filter(|(_, place)| place.is_shared);
        let shared: std::collections::BTreeSet<_> = shared.map(|(_, place)| place.sequence).collect();
        prop_assert_eq!((bench.len(Space::Queue), bench.len(Space::Message)), (waiting, shared.len()));
    }
}
