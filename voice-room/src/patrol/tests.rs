//! Each kind of difference is found by its path, and classed by who may write there.

use super::*;
use crate::RoomRecord;
use alloc::{vec, vec::Vec};

const NOW: Wall = Wall(1_000_000);

type Corrupt<T> = fn(&mut T);

fn epoch(revision: u64) -> Epoch {
    Epoch { era: 0, revision }
}

fn record() -> RoomRecord {
    RoomRecord {
        room: "a".parse().unwrap(),
        state: State::Liveing,
        version: Version(7),
        epoch: epoch(3),
        op_id: "op-7".parse().unwrap(),
        incarnation: Incarnation(5),
        owner: "n1".parse().unwrap(),
        since: Wall(900_000),
        source: Some("media-1".parse().unwrap()),
        host: None,
        ports: vec![Port(50_000)],
    }
}

fn here(record: &RoomRecord) -> Here<'_> {
    Here {
        record,
        epoch: epoch(4),
        isolation: None,
        shares: true,
    }
}

fn stored(change: impl Fn(&mut Fields)) -> StoreSight {
    let mut fields = Fields::from(record());
    change(&mut fields);
    StoreSight {
        record: Stored::Record(Box::new(fields)),
        fence: Some(Ok(epoch(4))),
        isolation: None,
    }
}

fn brief(found: &[Difference]) -> Vec<(&str, Class, Right)> {
    found.iter().map(|d| (&*d.path, d.class, d.right)).collect()
}

#[test]
fn what_is_the_same_differs_nowhere() {
    let record = record();
    assert_eq!(here(&record).in_store(NOW, &stored(|_| {})), []);
    assert_eq!(here(&record).in_registry(&record.owner, &registered(|_| {})), []);
    assert_eq!(cut().in_kernel(Mono(5), &record.room, Some(&bound(|_| {}))), []);
}

#[test]
fn each_field_of_a_stored_record_is_named_by_its_path_with_both_values() {
    let record = record();
    let corrupted: [(&str, Worth, Corrupt<Fields>); 6] = [
        ("/store/state", Worth::text("EXPIRED"), |f| {
            f.state = Ok(State::Expired);
        }),
        ("/store/state", Worth::text("LIVE!"), |f| {
            f.state = Err("LIVE!".into());
        }),
        ("/store/incarnation", Worth::Number(6), |f| {
            f.incarnation = Ok(Incarnation(6));
        }),
        ("/store/owner", Worth::text("n2"), |f| {
            f.owner = Ok("n2".parse().unwrap());
        }),
        ("/store/since_ms", Worth::Number(1), |f| f.since = Ok(Wall(1))),
        ("/store/data", Worth::text("{"), |f| f.data = Err("{".into())),
    ];
    for (path, there, change) in corrupted {
        let found = here(&record).in_store(NOW, &stored(change));
        assert_eq!(brief(&found), [(path, Class::Repairable, Right::Here)]);
        assert_eq!(found[0].there, there);
    }
    let older = here(&record).in_store(NOW, &stored(|f| f.epoch = Ok(epoch(2))));
    assert_eq!(brief(&older), [("/store/epoch", Class::Repairable, Right::Here)]);
    assert_eq!(
        (&older[0].here, &older[0].there),
        (&Worth::text("0.3"), &Worth::text("0.2"))
    );
}

#[test]
fn what_a_higher_epoch_has_written_is_for_a_person_and_nothing_else_of_it_is_judged() {
    let record = record();
    let higher = stored(|f| {
        f.epoch = Ok(epoch(5));
        f.state = Ok(State::Expired);
    });
    let found = here(&record).in_store(NOW, &higher);
    assert_eq!(brief(&found), [("/store/epoch", Class::Human, Right::There)]);
    assert!(found[0].why.contains("0.5") && found[0].why.contains("not touched"));
    let fenced = StoreSight {
        fence: Some(Ok(epoch(5))),
        ..stored(|f| f.state = Ok(State::Expired))
    };
    assert_eq!(
        brief(&here(&record).in_store(NOW, &fenced)),
        [("/store/fence", Class::Human, Right::There)]
    );
    let told = registered(|r| r.told = told(|t| (t.epoch, t.state) = (epoch(5), State::Expired)));
    let found = here(&record).in_registry(&record.owner, &told);
    assert_eq!(
        brief(&found),
        [("/registry/told/epoch", Class::Human, Right::There)]
    );
}

#[test]
fn what_the_next_refresh_of_a_shared_store_ends_is_transient_and_a_lone_store_is_repaired() {
    let record = record();
    let nothing = StoreSight {
        record: Stored::Nothing,
        ..stored(|_| {})
    };
    let behind = stored(|f| f.version = Ok(Version(6)));
    let ahead = stored(|f| f.version = Ok(Version(8)));
    let classes = |shares, there: &StoreSight| {
        let found = Here {
            shares,
            ..here(&record)
        }
        .in_store(NOW, there);
        (found[0].class, found[0].right)
    };
    for there in [&nothing, &behind] {
        assert_eq!(classes(true, there), (Class::Transient, Right::Here));
        assert_eq!(classes(false, there), (Class::Repairable, Right::Here));
    }
    assert_eq!(classes(true, &ahead), (Class::Transient, Right::There));
    assert_eq!(classes(false, &ahead), (Class::Repairable, Right::Here));
}

#[test]
fn an_isolation_that_only_one_has_differs_unless_it_has_ended() {
    let record = record();
    let isolation = |until| Isolation {
        room: record.room.clone(),
        reason: "stuck".into(),
        until: Wall(until),
    };
    let holds = |until| StoreSight {
        isolation: Some(Ok(isolation(until))),
        ..stored(|_| {})
    };
    let ours = isolation(1_060_000);
    let isolated = Here {
        isolation: Some(&ours),
        ..here(&record)
    };
    assert_eq!(here(&record).in_store(NOW, &holds(NOW.0)), []);
    assert_eq!(isolated.in_store(NOW, &holds(1_060_000)), []);
    for found in [
        here(&record).in_store(NOW, &holds(1_060_000)),
        isolated.in_store(NOW, &holds(1_090_000)),
        isolated.in_store(NOW, &stored(|_| {})),
    ] {
        assert_eq!(
            brief(&found),
            [("/store/isolation/until", Class::Repairable, Right::Here)]
        );
    }
}

fn told(change: impl Fn(&mut Told)) -> Option<Field<Told>> {
    let record = record();
    let mut told = Told {
        incarnation: record.incarnation,
        state: record.state,
        version: record.version,
        epoch: record.epoch,
        source: record.source,
        address: "127.0.0.1:7400".into(),
    };
    change(&mut told);
    Some(Ok(told))
}

fn registered(change: impl Fn(&mut RegistrySight)) -> RegistrySight {
    let mut sight = RegistrySight {
        owner: Some(Ok(OwnerSeen {
            node: "n1".parse().unwrap(),
            epoch: epoch(4),
        })),
        told: told(|_| {}),
        telling: false,
        address: "127.0.0.1:7400".into(),
    };
    change(&mut sight);
    sight
}

#[test]
fn what_is_told_in_the_registry_is_repairable_once_nothing_is_on_its_way_there() {
    let record = record();
    let changes: [(&str, Corrupt<RegistrySight>); 5] = [
        ("/registry/told", |r| r.told = None),
        ("/registry/told", |r| r.told = Some(Err("no JSON".into()))),
        ("/registry/told/state", |r| {
            r.told = told(|t| t.state = State::Created);
        }),
        ("/registry/told/version", |r| {
            r.told = told(|t| t.version = Version(8));
        }),
        ("/registry/told/address", |r| {
            r.told = told(|t| t.address = "x".into());
        }),
    ];
    for (path, change) in changes {
        let there = registered(change);
        let found = here(&record).in_registry(&record.owner, &there);
        assert_eq!(brief(&found), [(path, Class::Repairable, Right::Here)]);
        let telling = RegistrySight {
            telling: true,
            ..there
        };
        let found = here(&record).in_registry(&record.owner, &telling);
        assert_eq!(brief(&found), [(path, Class::Transient, Right::Here)]);
    }
}

#[test]
fn an_owners_key_follows_the_claim_but_for_one_that_cannot_be_read() {
    let record = record();
    let gone = registered(|r| r.owner = None);
    let found = here(&record).in_registry(&record.owner, &gone);
    assert_eq!(
        brief(&found),
        [("/registry/owner/node", Class::Transient, Right::There)]
    );
    let foreign = registered(|r| r.owner = Some(Err("it is on no lease".into())));
    let expected = [("/registry/owner", Class::Human, Right::Unknown)];
    assert_eq!(
        brief(&here(&record).in_registry(&record.owner, &foreign)),
        expected
    );
    assert_eq!(brief(&claiming(&record.room, &record.owner, &foreign)), expected);
    assert_eq!(claiming(&record.room, &record.owner, &gone), []);
}

fn cut() -> Cut {
    Cut {
        incarnation: Incarnation(5),
        binding: Binding::from(vec![Port(50_000), Port(50_002)]),
        deadline: Some(Mono(100)),
        shadow: false,
        under_way: false,
        refused: false,
    }
}

fn bound(change: impl Fn(&mut KernelSight)) -> KernelSight {
    let mut sight = KernelSight {
        name: Some((record().room, Incarnation(5))),
        generation: (2, 2),
        deadline: Mono(100),
        shadow: false,
        released: false,
        bound: cut().binding,
        elsewhere: Vec::new(),
    };
    change(&mut sight);
    sight
}

#[test]
fn each_word_of_the_maps_is_named_by_its_path() {
    let changes: [(&str, Corrupt<KernelSight>); 8] = [
        ("/kernel/ports/50002", |k| k.bound.ports.truncate(1)),
        ("/kernel/ports/50010", |k| k.bound.ports.push(Port(50_010))),
        ("/kernel/generation", |k| k.generation.0 = 9),
        ("/kernel/room", |k| k.name = None),
        ("/kernel/incarnation", |k| {
            k.name = Some((record().room, Incarnation(4)));
        }),
        ("/kernel/verdict/deadline", |k| k.deadline = Mono(0)),
        ("/kernel/verdict/deadline", |k| k.deadline = Mono(101)),
        ("/kernel/verdict/shadow", |k| k.shadow = true),
    ];
    for (path, change) in changes {
        let found = cut().in_kernel(Mono(5), &record().room, Some(&bound(change)));
        assert_eq!(brief(&found), [(path, Class::Repairable, Right::Here)]);
    }
    let none = cut().in_kernel(Mono(5), &record().room, None);
    assert_eq!(brief(&none), [("/kernel/slot", Class::Repairable, Right::Here)]);
}

#[test]
fn a_deadline_that_has_passed_and_the_odd_port_of_a_bound_one_are_no_difference() {
    let past = bound(|k| {
        k.deadline = Mono(90);
        k.bound.ports.push(Port(50_001));
    });
    assert_eq!(cut().in_kernel(Mono(100), &record().room, Some(&past)), []);
    let refused = Cut {
        refused: true,
        ..cut()
    };
    assert_eq!(
        refused.in_kernel(Mono(5), &record().room, None)[0].class,
        Class::Human
    );
    let told = Cut {
        under_way: true,
        ..cut()
    };
    assert_eq!(
        told.in_kernel(Mono(5), &record().room, None)[0].class,
        Class::Transient
    );
}

fn round(found: &[Difference]) -> Round {
    let mut round = Round::default();
    round.take(found.to_vec());
    round
}

fn difference(there: u64, place: Place, class: Class) -> Difference {
    Difference {
        room: record().room,
        place,
        path: format!("/{place}/x"),
        here: Worth::Number(1),
        there: Worth::Number(there),
        right: Right::Here,
        class,
        why: String::new(),
    }
}

#[test]
fn a_difference_counts_when_the_same_stands_in_two_rounds_and_a_transient_one_is_never_told() {
    let (a, b) = (
        difference(2, Place::Store, Class::Repairable),
        difference(3, Place::Store, Class::Repairable),
    );
    let transient = difference(2, Place::Registry, Class::Transient);
    let mut rounds = Rounds::default();
    assert_eq!(
        rounds.end(NOW, &round(&[a.clone(), transient.clone()])),
        Ended::default()
    );
    // Another value is another difference.
    assert_eq!(
        rounds.end(NOW, &round(&[b.clone(), transient.clone()])),
        Ended::default()
    );
    let ended = rounds.end(NOW, &round(&[b.clone(), transient.clone()]));
    assert_eq!((ended.new, ended.repair.len()), (vec![b.clone()], 0));
    assert_eq!(
        rounds.end(NOW, &round(core::slice::from_ref(&b))),
        Ended::default(),
        "told once"
    );
    assert_eq!(rounds.counts(), [((Place::Store, Class::Repairable), 1)].into());
    rounds.end(NOW, &round(&[]));
    assert!(rounds.standing(&b).is_none() && rounds.counts().is_empty());
}

#[test]
fn registry_and_kernel_are_repaired_without_being_asked_the_store_is_not_and_what_came_of_it_is_told() {
    let all = Place::ALL.map(|place| difference(2, place, Class::Repairable));
    let human = Difference {
        room: "b".parse().unwrap(),
        ..difference(2, Place::Kernel, Class::Human)
    };
    let found: Vec<Difference> = all.iter().cloned().chain([human]).collect();
    let mut rounds = Rounds::default();
    rounds.end(NOW, &round(&found));
    let ended = rounds.end(NOW, &round(&found));
    assert_eq!(ended.repair, all[1..]);
    let ended = rounds.end(NOW, &round(&all[..2]));
    assert_eq!(ended.repaired, [(all[1].clone(), false), (all[2].clone(), true)]);
    assert_eq!(ended.repair, [all[1].clone()], "tried again");
}

#[test]
fn what_a_place_that_is_away_held_is_neither_new_nor_gone() {
    let a = difference(2, Place::Store, Class::Repairable);
    let mut rounds = Rounds::default();
    rounds.end(NOW, &round(core::slice::from_ref(&a)));
    let mut away = Round::default();
    away.unknown(Place::Store, "no answer");
    assert_eq!(rounds.end(NOW, &away), Ended::default());
    assert_eq!(rounds.standing(&a).unwrap().rounds, 1);
    assert_eq!(rounds.end(NOW, &round(core::slice::from_ref(&a))).new, [a]);
}

#[test]
fn of_more_differences_than_are_kept_the_others_are_counted() {
    let mut round = Round::default();
    round.take(vec![
        difference(2, Place::Store, Class::Repairable);
        rounds::MOST + 3
    ]);
    assert_eq!((round.found.len(), round.left_out), (rounds::MOST, 3));
}
