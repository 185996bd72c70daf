//! Every store does what `store_cases` says: the embedded one, a real Redis, a real Redis Cluster.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use tempfile::TempDir;
use voice_agent::store::{Embedded, Redis};
use voice_tests::{
    redis::{Cluster, Server},
    store_cases as cases,
};

/// Hands every case to `$with`.
macro_rules! every_case {
    ($with:ident) => {
        $with! {
            of_two_writers_of_one_version_one_wins_and_the_other_gets_the_winners_record
            a_change_repeated_a_hundred_times_is_one_effect_and_one_event
            a_lower_epoch_is_fenced_and_the_same_or_a_higher_one_is_not
            a_new_life_begins_over_a_destroyed_room_and_not_over_a_live_one
            a_transition_of_a_room_that_is_not_stored_is_a_conflict_with_nothing
            a_version_that_is_not_the_next_one_or_another_old_state_is_a_conflict
            isolation_is_set_kept_and_cleared_with_its_change_and_not_by_a_refused_one
            events_are_read_in_order_from_a_position_on
            a_restored_record_goes_in_where_nothing_or_an_older_version_is_stored
            a_restored_record_does_not_go_in_over_a_higher_epoch_or_its_own_version
            a_refresh_keeps_what_is_stored_as_its_owner_knows_it_and_tells_of_all_else
            a_look_changes_nothing_and_tells_how_old_a_record_is
            members_that_join_and_leave_are_taken
        }
    };
}

/// Each case as a test of its own, on an empty store that `store` makes, with what must outlive it.
macro_rules! tests {
    ($($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (store, _kept) = store();
                super::cases::$case(&store).await;
            }
        )*
    };
}

mod embedded {
    use super::*;

    fn store() -> (Embedded, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Embedded::open(dir.path()).unwrap(), dir)
    }

    every_case!(tests);
}

mod redis {
    use super::*;

    fn store() -> (Redis, Server) {
        let server = Server::start().unwrap();
        (Redis::open(&server.config()).unwrap(), server)
    }

    every_case!(tests);
}

mod redis_cluster {
    use super::*;

    /// One cluster for all cases: it takes seconds to start.
    macro_rules! in_turn {
        ($($case:ident)*) => {
            #[tokio::test]
            async fn every_case_holds_on_a_cluster() {
                let cluster = Cluster::start().unwrap();
                $(
                    println!("{}", stringify!($case));
                    let store = Redis::open(&cluster.config()).unwrap();
                    super::cases::$case(&store).await;
                    cluster.empty().unwrap();
                )*
            }
        };
    }

    every_case!(in_turn);
}
