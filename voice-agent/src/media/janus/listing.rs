//! Asks Janus who is where: the whole listing, or one handle. Answers with facts or an error, never with both; what
//! follows from them is in `rooms`.

use super::{
    admin::{Admin, AdminError},
    counters::{Counters, count},
    rooms::Listing,
    wire::{Answer, Info, PLUGIN, Participant},
};
use serde_json::{Value, json};
use std::{ops::RangeInclusive, sync::Arc};
use voice_room::RoomId;

/// One connection, and what it needs to read answers.
#[derive(Debug)]
pub(super) struct Asker {
    admin: Admin,
    ports: RangeInclusive<u16>,
    counters: Arc<Counters>,
    /// Questions answered in the listing under way.
    answers: u32,
}

impl Asker {
    pub(super) fn new(admin: Admin, ports: RangeInclusive<u16>, counters: Arc<Counters>) -> Asker {
        Asker {
            admin,
            ports,
            counters,
            answers: 0,
        }
    }

    /// Questions that were answered in the last listing, also one that was broken off; and what came in place of the
    /// last answer.
    pub(super) fn answers(&self) -> u32 {
        self.answers.saturating_add(self.admin.strays())
    }

    /// Every participant and room. Handles are asked one by one: 60 take 50-290 ms. A handle or session that went
    /// away meanwhile is left out; any other failure fails the listing, since Janus answers all these questions with
    /// one thread. The plugin's list of rooms comes from another thread and only adds empty rooms: its failure is
    /// counted, no more.
    pub(super) async fn everything(&mut self) -> Result<Listing, AdminError> {
        self.answers = 0;
        let mut participants = Vec::new();
        for session in self.ids("list_sessions", json!({}), |a| a.sessions).await? {
            let of = json!({ "session_id": session });
            for handle in self.ids("list_handles", of, |a| a.handles).await? {
                participants.extend(self.participant(session, handle).await?);
            }
        }
        let rooms = self.rooms().await;
        Ok(Listing { participants, rooms })
    }

    /// The participant that this handle is, if it is in a room.
    pub(super) async fn participant(
        &mut self,
        session: u64,
        handle: u64,
    ) -> Result<Option<Participant>, AdminError> {
        let question = "handle_info";
        let of = json!({ "session_id": session, "handle_id": handle });
        let Some(info) = self.unless_gone(question, of, |a| a.info).await? else {
            return Ok(None);
        };
        let participant = Info::participant(info, (session, handle), &self.ports, &self.counters);
        participant.map_err(|problem| {
            count(&self.counters.admin_failed);
            let problem = problem.to_string();
            AdminError::Garbage { question, problem }
        })
    }

    async fn ids(
        &mut self,
        question: &'static str,
        of: Value,
        field: fn(Answer) -> Option<Vec<u64>>,
    ) -> Result<Vec<u64>, AdminError> {
        Ok(self.unless_gone(question, of, field).await?.unwrap_or_default())
    }

    /// One field of an answer; none if Janus says that the session or handle is gone.
    async fn unless_gone<T>(
        &mut self,
        question: &'static str,
        of: Value,
        field: fn(Answer) -> Option<T>,
    ) -> Result<Option<T>, AdminError> {
        /// JANUS_ERROR_SESSION_NOT_FOUND and JANUS_ERROR_HANDLE_NOT_FOUND.
        const GONE: [i64; 2] = [458, 459];
        let answer = self.admin.ask(question, of).await;
        if matches!(answer, Ok(_) | Err(AdminError::Refused { .. })) {
            self.answers = self.answers.saturating_add(1);
        }
        match answer {
            Ok(answer) => field(answer).map(Some).ok_or_else(|| {
                count(&self.counters.admin_failed);
                let problem = "the field it is asked for is missing".into();
                AdminError::Garbage { question, problem }
            }),
            Err(AdminError::Refused { code, .. }) if GONE.contains(&code) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn rooms(&mut self) -> Vec<RoomId> {
        let request = json!({ "plugin": PLUGIN, "request": { "request": "list" } });
        let listed = match self.admin.ask("message_plugin", request).await {
            Ok(answer) => answer.response.and_then(|response| response.list),
            Err(error) => {
                tracing::debug!(%error, "janus: no list of rooms");
                None
            }
        };
        let Some(listed) = listed else {
            count(&self.counters.room_lists_failed);
            return Vec::new();
        };
        listed
            .into_iter()
            .filter_map(|room| room.room.room(&self.counters))
            .collect()
    }
}
