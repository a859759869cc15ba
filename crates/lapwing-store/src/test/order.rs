//! The order of transactions, and that each is there as a whole.

use super::*;
use crate::engine::Fault;

const CUTS: [Cut; 2] = [Cut::Process, Cut::Power];

#[test]
fn transactions_are_there_from_the_first_on_and_each_as_a_whole() {
    for seed in 0..300 {
        for cut in CUTS {
            let mut bench = Bench::new(seed);
            let told: Vec<_> = (0..20)
                .map(|number| {
                    let changes = [1, 2].map(|session| queued(&number.to_string(), &[session]));
                    let told = bench.submit(changes.into_iter().chain([session(100 + number)]));
                    if number % 3 == seed % 3 {
                        bench.turn();
                    }
                    told
                })
                .collect();
            let is_told = told.iter().take_while(|told| told.lock().unwrap().is_some()).count();
            assert!(told[is_told..].iter().all(|told| told.lock().unwrap().is_none()));
            let mut bench = bench.restart(cut);
            let found = bench.texts(1);
            assert!(found.len() >= is_told, "{} of {is_told}", found.len());
            assert!(found.iter().enumerate().all(|(number, text)| *text == number.to_string()));
            assert_eq!(bench.texts(2), found);
            assert_eq!(bench.len(Space::Session), found.len());
            // Places go on behind those that are in use.
            let last = bench.read(1, Sequence(0)).deliveries.last().map(|it| it.place.sequence);
            let next = bench.make([queued("next", &[1])]);
            assert!(last.is_none_or(|last| last < next));
        }
    }
}

#[test]
fn what_fails_is_not_told_and_nothing_is_afterwards() {
    for calls in 0..4 {
        let mut bench = Bench::new(9);
        let first = bench.make([queued("1", &[1])]);
        assert_eq!(first, Sequence(1));
        bench.disk.fail_after(calls % 2, Fault::InputOutput);
        let told = bench.submit([queued("2", &[1])]);
        assert!(bench.writer.turn(Some(Duration::ZERO)).is_err());
        assert_eq!(bench.store.condition(), crate::Condition::Failed);
        let later = bench.submit([queued("3", &[1])]);
        assert!(bench.writer.turn(Some(Duration::ZERO)).is_err());
        assert_eq!((*told.lock().unwrap(), *later.lock().unwrap()), (None, None));
        let found = bench.restart(CUTS[calls as usize / 2]).texts(1);
        // Whether the second is there nobody knows.
        assert!(found == ["1"] || found == ["1", "2"], "{found:?}");
    }
}

#[test]
fn those_who_wait_are_told_in_the_order_of_their_requests() {
    let mut bench = Bench::new(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..30 {
        let order = Arc::clone(&order);
        let note = move || order.lock().unwrap().push(number);
        match number % 3 {
            0 => bench.store.submit(transaction([queued("x", &[1])], number % 2 == 0), move |_| note()),
            1 => bench.store.count(SessionNumber(1), move |_| note()),
            _ => bench.store.read_flows(SessionNumber(1), move |_| note()),
        }
    }
    bench.turn();
    assert!(order.lock().unwrap().iter().copied().eq(0..30));
}

#[test]
fn reads_see_what_was_submitted_before_them_and_nothing_behind() {
    let mut bench = Bench::new(1);
    let lengths = Arc::new(Mutex::new(Vec::new()));
    for number in 0..10 {
        bench.store.submit(transaction([queued(&number.to_string(), &[1])], false), |_| ());
        let lengths = Arc::clone(&lengths);
        let request =
            QueueRequest { session: SessionNumber(1), after: Sequence(0), messages: 100, bytes: 1 << 20 };
        bench.store.read(request, move |read| lengths.lock().unwrap().push(read.deliveries.len()));
    }
    bench.turn();
    assert!(lengths.lock().unwrap().iter().copied().eq(1..=10));
}

#[test]
fn a_read_gives_as_much_as_was_asked_for() {
    let mut bench = Bench::new(1);
    bench.make((0..10).map(|number| queued(&format!("message {number}"), &[1])));
    bench.make([queued("of another one", &[2])]);
    let mut request =
        QueueRequest { session: SessionNumber(1), after: Sequence(0), messages: 4, bytes: 1 << 20 };
    let mut read = |request| bench.ask(|store, then| store.read(request, then));
    let first = read(request);
    assert_eq!((first.deliveries.len(), first.is_all), (4, false));
    request.after = first.deliveries[3].place.sequence;
    request.messages = 6;
    let rest = read(request);
    assert_eq!((rest.deliveries.len(), rest.is_all), (6, true));
    assert_eq!(&*rest.deliveries[0].message, b"message 4");
    // At least one, however few bytes are wanted.
    request = QueueRequest { after: Sequence(0), messages: 10, bytes: 0, ..request };
    assert_eq!(read(request).deliveries.len(), 1);
    let count = bench.count(1);
    assert_eq!((count.messages, count.bytes), (10, 90));
}

#[test]
fn a_delivery_has_what_its_session_gets_and_not_what_others_do() {
    let mut bench = Bench::new(1);
    let full = QueueTarget {
        qos: 2,
        retain_as_published: true,
        identifiers: [5, 268_435_455].into(),
        share: Some("$share/g/t".into()),
        ..target(2)
    };
    for targets in [vec![full.clone()], vec![target(1), full]] {
        let is_shared = targets.len() > 1;
        let message =
            QueuedMessage { message: (*b"x").into(), qos: 2, retain: true, targets: targets.into() };
        let sequence = bench.make([Change::Queued(message)]);
        let found = bench.read(2, Sequence(sequence.0 - 1)).deliveries;
        assert_eq!(found[0].place, Place { sequence, is_shared });
        assert_eq!((found[0].qos, found[0].retain, &*found[0].identifiers), (2, true, &[5, 268_435_455][..]));
        assert_eq!(found[0].share.as_deref(), Some("$share/g/t"));
        if is_shared {
            let other = &bench.read(1, Sequence(0)).deliveries[0];
            assert_eq!((other.qos, other.retain, other.identifiers.len()), (1, false, 0));
            assert_eq!(&*other.message, b"x");
        }
    }
}

#[test]
fn flows_come_in_the_order_of_their_messages() {
    for cut in CUTS {
        let mut bench = Bench::new(1);
        let first = bench.make((0..4).map(|number| queued(&number.to_string(), &[1])));
        let place = |at: u64| Sequence(first.0 + at);
        bench.make([
            flow(1, FlowKey::Inbound(9), Some(FlowState::Received)),
            flow(1, FlowKey::Inbound(65_535), Some(FlowState::Received)),
            // The identifiers have begun anew in between.
            flow(1, FlowKey::Outbound(65_535), Some(FlowState::Sent(place(0)))),
            flow(1, FlowKey::Outbound(1), Some(FlowState::Sent(place(1)))),
            flow(1, FlowKey::Outbound(2), Some(FlowState::Sent(place(2)))),
            flow(2, FlowKey::Outbound(1), Some(FlowState::Sent(place(3)))),
        ]);
        bench.make([
            flow(1, FlowKey::Outbound(1), Some(FlowState::Released(7, place(1)))),
            settled(1, Place { sequence: place(1), is_shared: false }),
            flow(1, FlowKey::Inbound(9), None),
        ]);
        let mut bench = bench.restart(cut);
        let flows = bench.flows(1);
        assert_eq!(flows.received, [65_535]);
        let expected = [
            (65_535, FlowState::Sent(place(0))),
            (1, FlowState::Released(7, place(1))),
            (2, FlowState::Sent(place(2))),
        ];
        assert_eq!(flows.sent, expected);
        let messages: Vec<_> = flows.deliveries.iter().map(|it| &*it.message).collect();
        assert_eq!(messages, [b"0", b"2"]);
    }
}

#[test]
fn numbers_are_not_given_twice() {
    for cut in CUTS {
        let mut bench = Bench::new(3);
        for _ in 0..5 {
            let number = bench.store.next_session();
            bench.make([session(number.0)]);
        }
        let last = bench.store.next_session();
        bench.make([queued("for one that is not there yet", &[last.0])]);
        let bench = bench.restart(cut);
        assert!(bench.store.next_session() > last);
    }
}
