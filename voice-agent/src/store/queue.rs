//! A bounded queue to a thread of its own, for work that a disk can hang. The asker gives up after its deadline.

use super::StoreError;
use crate::telemetry::Counter;
use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    time::Duration,
};
use tokio::sync::oneshot;

/// The way back to the one who asked. He may have given up: then nobody is told.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// Work waiting for its thread. When it is full, more is refused at once. The thread ends when every clone is dropped
/// and the work that waits is done.
#[derive(Debug)]
pub(super) struct Queue<J> {
    name: &'static str,
    jobs: SyncSender<J>,
    failed: Counter,
}

impl<J> Clone for Queue<J> {
    fn clone(&self) -> Self {
        Queue {
            name: self.name,
            jobs: self.jobs.clone(),
            failed: self.failed,
        }
    }
}

impl<J: Send + 'static> Queue<J> {
    /// Starts the thread. What fails is counted by `failed` and told with `name` before it.
    pub(super) fn start(
        name: &'static str,
        bound: usize,
        failed: Counter,
        run: impl FnOnce(Receiver<J>) + Send + 'static,
    ) -> io::Result<Queue<J>> {
        let (jobs, waiting) = sync_channel(bound);
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(waiting))?;
        Ok(Queue { name, jobs, failed })
    }

    /// Asks for work at once; the answer is waited for at most `within`. After that nothing is known: the work may still
    /// be done later, in its order. The work is done also when the answer is not waited for.
    pub(super) fn ask<T, F>(
        &self,
        within: Duration,
        job: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, F, J>
    where
        T: Send + 'static,
        F: FnOnce(Answer<T>) -> J,
    {
        let (tell, told) = oneshot::channel();
        let asked = self.jobs.try_send(job(tell)).map_err(|e| match e {
            TrySendError::Full(_) => "its queue is full; the disk is too slow or hangs",
            TrySendError::Disconnected(_) => "it is closed",
        });
        let (name, failed) = (self.name, self.failed);
        async move {
            let result = match asked {
                Ok(()) => answered(within, told).await,
                Err(problem) => Err(StoreError::Unavailable(problem.into())),
            };
            result.map_err(|error| match error {
                StoreError::Unavailable(problem) => {
                    failed.count();
                    StoreError::Unavailable(format!("{name}: {problem}"))
                }
                StoreError::Damaged(problem) => {
                    failed.count();
                    StoreError::Damaged(format!("{name}: {problem}"))
                }
                other @ (StoreError::Foreign { .. } | StoreError::Cut { .. }) => other,
            })
        }
    }
}

async fn answered<T>(
    within: Duration,
    told: oneshot::Receiver<Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(within, told).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(StoreError::Unavailable("it was closed before it answered".into())),
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer within {}; the disk is too slow or hangs",
            humantime::format_duration(within)
        ))),
    }
}

/// Answers the one who asked; he may have given up, and asks again then.
pub(super) fn tell<T>(answer: Answer<T>, result: Result<T, StoreError>) {
    let _ = answer.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use tokio::time::Instant;

    const WITHIN: Duration = Duration::from_millis(250);

    /// A queue whose thread hangs, as on a disk that does, until the sender given back is used or dropped.
    fn hung(bound: usize) -> (Queue<Answer<u32>>, std::sync::mpsc::Sender<()>) {
        let (go, wait) = channel::<()>();
        let queue = Queue::start("test", bound, Counter::StoreFailed, move |jobs| {
            let _ = wait.recv();
            jobs.iter().for_each(|answer| tell(answer, Ok(7)));
        });
        (queue.unwrap(), go)
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_holds_nobody_longer_than_the_deadline() {
        let (queue, go) = hung(4);
        let (begin, failed) = (Instant::now(), Counter::StoreFailed.value());
        let refused = queue.ask(WITHIN, |answer| answer).await.unwrap_err();
        assert_eq!(begin.elapsed(), WITHIN);
        assert!(
            refused.to_string().starts_with("test: no answer within 250ms"),
            "{refused}"
        );
        assert!(Counter::StoreFailed.value() > failed);
        drop(go);
        tokio::time::resume();
        assert_eq!(queue.ask(Duration::from_secs(60), |answer| answer).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let (queue, _go) = hung(2);
        let waiting = [WITHIN; 2].map(|within| queue.ask(within, |answer| answer));
        let begin = Instant::now();
        let refused = queue.ask(WITHIN, |answer| answer).await.unwrap_err();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(refused.to_string().contains("queue is full"), "{refused}");
        drop(waiting);
    }

    #[tokio::test]
    async fn a_thread_that_ended_is_an_answer_and_not_a_wait() {
        let queue = Queue::<Answer<u32>>::start("test", 1, Counter::StoreFailed, drop).unwrap();
        let refused = queue.ask(Duration::from_secs(60), |answer| answer).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
}
