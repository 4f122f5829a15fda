//! The confirms of one channel.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::PublisherConfirm;
use tokio::sync::{mpsc, oneshot};

use super::book::{Answer, Book};
use super::health::{CHANNEL_ERROR, Health};
use crate::amqp::AmqpError;

/// Completes when the broker has answered for one publish, or the channel has ended.
pub struct LapinConfirm {
    /// `None` where the channel is not in confirm mode.
    answer: Option<oneshot::Receiver<Answer>>,
    health: Health,
}

impl fmt::Debug for LapinConfirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinConfirm").finish_non_exhaustive()
    }
}

impl Future for LapinConfirm {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(AmqpError::Channel {
                code: CHANNEL_ERROR,
                text: "confirms were not asked for on this channel".to_owned(),
            }));
        };
        let answer = Pin::new(answer).poll(cx);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(self.health.cause())))
    }
}

/// A confirm that never comes: the channel is not in confirm mode.
pub(super) fn none(health: Health) -> LapinConfirm {
    LapinConfirm {
        answer: None,
        health,
    }
}

enum News {
    Sent {
        number: u64,
        mandatory: bool,
        confirm: PublisherConfirm,
        answer: oneshot::Sender<Answer>,
    },
    /// lapin refused it: there is nothing to wait for.
    NotSent(u64),
    /// Its caller stopped waiting while it was written, so lapin's confirm is lost, and with it
    /// perhaps the return of another message.
    Abandoned(u64),
}

/// The confirms of one channel.
pub(super) struct Confirms {
    begun: Arc<AtomicU64>,
    news: mpsc::UnboundedSender<News>,
    health: Health,
}

impl Confirms {
    /// Starts the task that looks after them; it ends with this value, once all are answered.
    pub(super) fn start(health: Health) -> Self {
        let begun = Arc::new(AtomicU64::new(0));
        let (news, incoming) = mpsc::unbounded_channel();
        let book = Book::new(begun.clone());
        tokio::spawn(keep(book, health.clone(), incoming));
        Self {
            begun,
            news,
            health,
        }
    }

    /// Begins a publish. What it gives must be told how the publish went.
    pub(super) fn begin(&self) -> Begun<'_> {
        self.health.begun();
        Begun {
            number: self.begun.fetch_add(1, Ordering::AcqRel),
            confirms: self,
            told: false,
        }
    }
}

/// A publish that was begun; dropped without a word it counts as abandoned.
pub(super) struct Begun<'a> {
    number: u64,
    confirms: &'a Confirms,
    told: bool,
}

impl Begun<'_> {
    /// What the message must carry as its `cluster-id`.
    pub(super) fn mark(&self) -> lapin::types::ShortString {
        self.number.to_string().into()
    }

    pub(super) fn sent(mut self, mandatory: bool, confirm: PublisherConfirm) -> LapinConfirm {
        let (answer, receiver) = oneshot::channel();
        self.tell(News::Sent {
            number: self.number,
            mandatory,
            confirm,
            answer,
        });
        LapinConfirm {
            answer: Some(receiver),
            health: self.confirms.health.clone(),
        }
    }

    pub(super) fn not_sent(mut self) {
        self.tell(News::NotSent(self.number));
    }

    fn tell(&mut self, news: News) {
        self.told = true;
        // Nobody listens only when the runtime is ending.
        let _ = self.confirms.news.send(news);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.tell(News::Abandoned(self.number));
        }
    }
}

/// Looks after the confirms of one channel until it is dropped and all are answered.
async fn keep(mut book: Book, health: Health, mut news: mpsc::UnboundedReceiver<News>) {
    let mut open = FuturesUnordered::new();
    let mut more = true;
    while more || !open.is_empty() {
        tokio::select! {
            told = news.recv(), if more => match told {
                Some(News::Sent { number, mandatory, confirm, answer }) => {
                    open.push(async move { (number, mandatory, answer, confirm.await) });
                }
                Some(News::NotSent(number)) => {
                    book.finished(number);
                    health.answered();
                }
                Some(News::Abandoned(number)) => {
                    book.abandoned(number);
                    health.answered();
                }
                None => more = false,
            },
            Some((number, mandatory, answer, resolved)) = open.next(), if !open.is_empty() => {
                let resolved = resolved.map_err(|e| health.failed(&e));
                book.resolved(number, mandatory, answer, resolved);
                health.answered();
            }
        }
    }
}
