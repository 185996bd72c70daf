//! How an application does it without a script: it reads the room, compares, and writes. Between the two another may write.

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use voice_agent::store::redis::keys::partition;
use voice_room::{Change, record::Committed};

/// A connection that does it so.
#[derive(Clone)]
pub(super) struct Way(MultiplexedConnection);

impl Way {
    pub(super) async fn new(port: u16) -> anyhow::Result<Way> {
        let client = redis::Client::open(("127.0.0.1", port))?;
        // As long as it takes: a call that gave up would not be counted as slow.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Way(connection.context("connect to Redis")?))
    }

    /// The same keys, fields, event and word to listeners as the script's.
    pub(super) async fn commit(mut self, change: Change) -> anyhow::Result<Committed> {
        let (record, event) = (&change.record, &change.event);
        let tag = format!("{{v{:02}}}", partition(&record.room));
        let (room, fence) = (
            format!("{tag}:room:{}", record.room),
            format!("{tag}:fence:{}", record.room),
        );
        let mut read = redis::cmd("HMGET");
        read.arg(&room).arg("version").arg("state");
        let (version, state): (Option<u64>, Option<String>) = read.query_async(&mut self.0).await?;
        let (epoch, wanted) = (record.epoch.to_string(), record.version.0);
        if version.unwrap_or(0) + 1 != wanted || state.as_deref() != event.old_state.map(|s| s.name()) {
            return Ok(Committed::Conflict(None));
        }
        let data = serde_json::json!({ "source": record.source, "host": record.host, "ports": record.ports })
            .to_string();
        let (number, incarnation, since) = (
            wanted.to_string(),
            record.incarnation.to_string(),
            record.since.0.to_string(),
        );
        let fields = [
            ("state", record.state.name()),
            ("version", &number),
            ("epoch", &epoch),
            ("op_id", &record.op_id),
            ("incarnation", &incarnation),
            ("owner", &record.owner),
            ("since_ms", &since),
            ("data", &data),
            ("trace_id", ""),
        ];
        let actor = serde_json::to_string(&event.actor)?;
        let told = [
            ("room", &*record.room),
            ("incarnation", &incarnation),
            ("event_type", event.event_type.name()),
            ("old_state", event.old_state.map_or("", |s| s.name())),
            ("new_state", event.new_state.name()),
            ("version", &number),
            ("epoch", &epoch),
            ("op_id", &record.op_id),
            ("actor", &actor),
            ("reason", &event.reason),
            ("trace_id", ""),
            ("timestamp", &since),
        ];
        let mut write = redis::pipe();
        write.cmd("HSET").arg(&room).arg(&fields[..]).ignore();
        write.cmd("EXPIRE").arg(&room).arg(300).ignore();
        write
            .cmd("SET")
            .arg(&fence)
            .arg(&epoch)
            .arg("EX")
            .arg(604_800)
            .ignore();
        write
            .cmd("XADD")
            .arg(format!("{tag}:events"))
            .arg("*")
            .arg(&told[..])
            .ignore();
        write
            .cmd("PUBLISH")
            .arg("room:state:update")
            .arg(serde_json::to_string(event)?)
            .ignore();
        write.exec_async(&mut self.0).await?;
        Ok(Committed::Ok)
    }
}
