//! Starts the log: tracing, with what other crates say through `log` bridged in. The kernel programs' lines come
//! through [`KernelLog`].

mod ring;

use crate::config::LogConfig;
use ring::{RING, RingWriter};
use std::{
    fmt::{Debug, Formatter},
    io::IsTerminal,
    process::id,
    sync::{Arc, OnceLock},
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt, fmt::writer::MakeWriterExt, reload, util::SubscriberInitExt};

/// The target of the kernel programs' own lines.
const KERNEL: &str = "kernel";

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log.filter {filter:?} is not a tracing filter: {problem}")]
    Filter {
        /// As configured.
        filter: String,
        /// What the parser said.
        problem: String,
    },
    /// Some other log was started before in this process.
    #[error("the log cannot be started: {0}")]
    Start(String),
}

/// Lines that may wait for whoever reads standard error. A reader that hangs loses lines; the agent never waits for it.
const WAITING_LINES: usize = 16_384;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// The log's own thread. What waits is written when this is dropped, for at most a second.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Log {
    _writer: WorkerGuard,
    filter: Filter,
}

impl Log {
    /// What is logged.
    pub fn filter(&self) -> Filter {
        self.filter.clone()
    }
}

/// Sets another filter while the log goes on.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl Debug for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

impl Filter {
    /// From now on this is logged.
    ///
    /// # Errors
    /// It is no filter, or the log has ended.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let new = parse(filter)?;
        (self.0)(new).map_err(|e| LogError::Start(e.to_string()))
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|e| LogError::Filter {
        filter: filter.to_owned(),
        problem: e.to_string(),
    })
}

/// Lines that were left out because nobody read standard error.
pub fn lost_lines() -> u64 {
    let lost = LOST.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(lost).unwrap_or(u64::MAX)
}

/// The last lines of the log, as they were written.
pub fn recent_lines() -> Vec<String> {
    RING.lines()
}

/// Sends everything to standard error as configured. Once in a process, before anything is logged.
pub fn init(config: &LogConfig) -> Result<Log, LogError> {
    let filter = parse(&config.filter)?;
    let queue = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES);
    let (writer, guard) = queue.thread_name("log").finish(std::io::stderr());
    let lost = writer.error_counter();
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(writer.and(|| RingWriter));
    let (started, filter) = if config.json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        let filter = Filter(Arc::new(move |filter| handle.reload(filter)));
        (builder.finish().try_init(), filter)
    } else {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let ansi = !no_color && std::io::stderr().is_terminal();
        let builder = builder.with_ansi(ansi).with_filter_reloading();
        let handle = builder.reload_handle();
        let filter = Filter(Arc::new(move |filter| handle.reload(filter)));
        (builder.finish().try_init(), filter)
    };
    started.map_err(|e| LogError::Start(e.to_string()))?;
    // A second start has failed above, so this is the first.
    LOST.get_or_init(|| lost);
    tracing::debug!(pid = id(), "log started");
    Ok(Log {
        _writer: guard,
        filter,
    })
}

/// Takes the kernel programs' lines from aya-log (`EbpfLogger::init_with_logger`) into the agent's log, under the
/// target `kernel`.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelLog;

impl log::Log for KernelLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (program, line) = (record.target(), record.args());
        match record.level() {
            log::Level::Error => tracing::error!(target: KERNEL, program, "{line}"),
            log::Level::Warn => tracing::warn!(target: KERNEL, program, "{line}"),
            log::Level::Info => tracing::info!(target: KERNEL, program, "{line}"),
            log::Level::Debug => tracing::debug!(target: KERNEL, program, "{line}"),
            log::Level::Trace => tracing::trace!(target: KERNEL, program, "{line}"),
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_the_kernel_programs_has_the_target_kernel_and_obeys_the_filter() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = fmt()
            .with_env_filter(EnvFilter::new("warn,kernel=info"))
            .with_writer(move || writer.clone())
            .json()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for (level, text) in [(log::Level::Info, "seen"), (log::Level::Debug, "unseen")] {
                log::Log::log(
                    &KernelLog,
                    &log::Record::builder()
                        .level(level)
                        .target("voice_ebpf")
                        .args(format_args!("{text}"))
                        .build(),
                );
            }
        });
        let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        let line: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(line["target"], "kernel");
        assert_eq!(line["fields"]["message"], "seen");
        assert_eq!(line["fields"]["program"], "voice_ebpf");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_its_text() {
        let config = LogConfig {
            filter: "a=b=c".into(),
            json: false,
        };
        assert!(init(&config).unwrap_err().to_string().contains("a=b=c"));
    }
}
