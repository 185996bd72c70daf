//! The figures over all rooms say what the rooms themselves say.

use crate::world::{OPERATOR, World};
use voice_room::{Rules, State, input::Ask};

#[test]
fn the_census_counts_what_each_room_says_of_itself() {
    let mut w = World::live(Rules::default(), &["a", "b", "c", "d"]);
    let block = Ask::Block {
        lasts: None,
        reason: "why".into(),
    };
    w.ask_as(OPERATOR, "a", block).0.unwrap().unwrap();
    w.omit("b");
    w.omit("c");
    w.rtp("c", 0, 0);
    w.pass(11);
    let census = w.core.census(w.now);
    let views = w.core.views(w.now);
    let count = |is: fn(&voice_room::core::RoomView) -> bool| views.iter().filter(|v| is(v)).count() as u32;
    assert_eq!(census.total, 4);
    assert_eq!(
        census.states,
        State::ALL.map(|s| views.iter().filter(|v| v.state == s).count() as u32)
    );
    assert_eq!((census.blocked, census.missing_heartbeats), (1, 2), "{census:?}");
    assert_eq!(census.blocked, count(|v| v.block.is_some()));
    assert_eq!(census.missing_heartbeats, count(|v| v.misses > 0));
    assert_eq!(census.passed, views.iter().map(|v| v.passed).sum::<u64>());
    assert!(census.passed > 0);
    w.pass(120);
    let census = w.core.census(w.now);
    assert_eq!(
        (census.held, census.blocked),
        (1, 2),
        "b moves both ways, c is dead: {census:?}"
    );
}
