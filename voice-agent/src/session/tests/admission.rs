//! A flood of questions for admission, and what else waits for the driver.

use super::*;
use crate::{
    proto::v1::admission_server::Admission as _,
    session::{
        identity::Caller,
        server::{MAX_QUESTIONS, Service},
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use voice_room::Input;

#[tokio::test]
async fn however_many_ask_for_admission_a_heartbeat_waits_for_a_bounded_number_of_questions_only() {
    let (handle, mut driver) = Handle::new(4 * MAX_QUESTIONS);
    let service = Service::new(sessions(8), handle.clone(), CancellationToken::new());
    let asked = 3 * MAX_QUESTIONS;
    let mut asking = JoinSet::new();
    for _ in 0..asked {
        let service = service.clone();
        asking.spawn(async move {
            let mut call = tonic::Request::new(v1::CheckJoinRequest { room: "r".into() });
            call.extensions_mut().insert(Caller(None));
            let answer = service.check_join(call).await;
            answer.unwrap().into_inner().allowed
        });
    }
    eventually("questions wait", || handle.queued().0 >= MAX_QUESTIONS).await;
    for _ in 0..asked {
        tokio::task::yield_now().await;
    }
    handle.fact(Input::MediaRefused).await.unwrap();
    let (mut answered, mut before_the_fact) = (0, None);
    while answered < asked {
        match driver.recv().await.unwrap() {
            Message::Query(Query::CheckJoin(_, to)) => {
                answered += 1;
                let (refused, authoritative) = (None, true);
                to.send(JoinAnswer {
                    refused,
                    authoritative,
                })
                .unwrap();
            }
            Message::Fact(_) => before_the_fact = Some(answered),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(before_the_fact, Some(MAX_QUESTIONS));
    let allowed = asking.join_all().await;
    assert_eq!((allowed.len(), allowed.iter().all(|a| *a)), (asked, true));
}
