//! The outside services of a load run, for processes that do not have them: one service stands for
//! all workers, so it stands in the harness's own process, and they call it over loopback.
//!
//! A call and its answer are a frame each: length, then `postcard`. A connection that is cut leaves
//! the calls on it in doubt, as it would with a real service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use redeliver_core::ports::{Service, ServiceCall, ServiceError, ServiceReply};

use crate::scenario::Scenario;
use crate::watch::history::{Name, names};

/// Counts strikes of rules with a limit, for all processes.
#[derive(Clone, Debug)]
pub(crate) struct Permits(Arc<Mutex<Vec<u32>>>);

impl Permits {
    /// As many as the rules of the scenario say.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let left = scenario.rules.iter().map(|rule| rule.limit);
        Self(Arc::new(Mutex::new(left.collect())))
    }

    /// Whether a rule may strike once more.
    pub(crate) fn take(&self, rule: u64) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = usize::try_from(rule)
            .ok()
            .and_then(|rule| left.get_mut(rule));
        left.is_some_and(|left| {
            let may = *left > 0;
            *left = left.saturating_sub(1);
            may
        })
    }
}

/// No call or answer is longer.
const LONGEST: u32 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Call {
    id: u64,
    #[serde(deserialize_with = "names::one")]
    service: Name,
    #[serde(deserialize_with = "names::one")]
    operation: Name,
    key: Arc<str>,
    token: u64,
    payload: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    id: u64,
    told: Told,
}

#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Reply(Bytes),
    Unavailable(String),
    InDoubt(String),
    Refused(String),
}

async fn write<T: Serialize>(to: &mut OwnedWriteHalf, value: &T) -> std::io::Result<()> {
    let frame = postcard::to_extend(value, vec![0; 4]).map_err(std::io::Error::other)?;
    let mut frame = frame;
    let length = u32::try_from(frame.len() - 4).map_err(std::io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame).await
}

async fn read<T: for<'de> Deserialize<'de>>(from: &mut OwnedReadHalf) -> std::io::Result<T> {
    let length = from.read_u32_le().await?;
    if length > LONGEST {
        return Err(std::io::Error::other("a frame is too long"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body).await?;
    postcard::from_bytes(&body).map_err(std::io::Error::other)
}

/// The operation of a call that asks whether a rule may strike once more; its token is the rule.
const PERMIT: &str = "permit";

/// Has these services called by other processes, and rules with a limit counted for all of them;
/// gives the address. Ends with its runtime.
///
/// # Errors
/// There is no port of loopback to be had.
pub(crate) async fn serve<S: Service>(
    services: S,
    permits: Permits,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_one(services.clone(), permits.clone(), stream));
        }
    });
    Ok(address)
}

async fn serve_one<S: Service>(services: S, permits: Permits, stream: TcpStream) {
    // A small answer must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    let (answers, mut answered) = mpsc::unbounded_channel::<Answer>();
    tokio::spawn(async move {
        while let Some(answer) = answered.recv().await {
            if write(&mut to, &answer).await.is_err() {
                return;
            }
        }
    });
    while let Ok(call) = read::<Call>(&mut from).await {
        if call.service.is_empty() && call.operation == PERMIT {
            let told = match permits.take(call.token) {
                true => Told::Reply(Bytes::new()),
                false => Told::Refused(String::new()),
            };
            let _ = answers.send(Answer { id: call.id, told });
            continue;
        }
        let (services, answers) = (services.clone(), answers.clone());
        // Whatever becomes of its caller, a service that was called acts.
        tokio::spawn(async move {
            let id = call.id;
            let told = services.call(call.into()).await;
            let told = match told {
                Ok(reply) => Told::Reply(reply.payload),
                Err(ServiceError::Unavailable { reason, .. }) => Told::Unavailable(reason),
                Err(ServiceError::InDoubt { reason, .. }) => Told::InDoubt(reason),
                Err(ServiceError::Refused { reason, .. }) => Told::Refused(reason),
            };
            // A caller that died hears nothing.
            let _ = answers.send(Answer { id, told });
        });
    }
}

impl From<Call> for ServiceCall {
    fn from(call: Call) -> Self {
        Self {
            service: call.service,
            operation: call.operation,
            idempotency_key: call.key,
            fencing_token: call.token,
            payload: call.payload,
        }
    }
}

/// Services in another process.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    address: SocketAddr,
    line: Arc<Mutex<Line>>,
}

/// The connection, and who waits for what on it.
#[derive(Debug, Default)]
struct Line {
    calls: Option<mpsc::UnboundedSender<Call>>,
    waiting: BTreeMap<u64, oneshot::Sender<Told>>,
    last: u64,
    /// Counts connections: the end of an old one says nothing of a new one.
    connection: u64,
}

impl Remote {
    /// At this address. Connects with the first call.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            line: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a call; gives where its answer comes.
    async fn send(&self, call: &ServiceCall) -> Result<oneshot::Receiver<Told>, String> {
        if self.lock().calls.is_none() {
            let stream = TcpStream::connect(self.address).await;
            self.connected(stream.map_err(|error| error.to_string())?);
        }
        let (answer, answered) = oneshot::channel();
        let mut line = self.lock();
        line.last += 1;
        let id = line.last;
        let frame = Call {
            id,
            service: call.service,
            operation: call.operation,
            key: call.idempotency_key.clone(),
            token: call.fencing_token,
            payload: call.payload.clone(),
        };
        let sent = line
            .calls
            .as_ref()
            .is_some_and(|calls| calls.send(frame).is_ok());
        if !sent {
            return Err("the connection was cut".to_owned());
        }
        line.waiting.insert(id, answer);
        Ok(answered)
    }

    fn connected(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (mut from, mut to) = stream.into_split();
        let (calls, mut called) = mpsc::unbounded_channel::<Call>();
        let connection = {
            let mut line = self.lock();
            if line.calls.is_some() {
                return; // Another call was faster.
            }
            line.calls = Some(calls);
            line.connection += 1;
            line.connection
        };
        let this = self.clone();
        tokio::spawn(async move {
            while let Some(call) = called.recv().await {
                if write(&mut to, &call).await.is_err() {
                    break;
                }
            }
            this.cut(connection);
        });
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok(answer) = read::<Answer>(&mut from).await {
                let waiting = this.lock().waiting.remove(&answer.id);
                if let Some(waiting) = waiting {
                    // Who gave its call up does not listen.
                    let _ = waiting.send(answer.told);
                }
            }
            this.cut(connection);
        });
    }

    fn cut(&self, connection: u64) {
        let mut line = self.lock();
        if line.connection == connection {
            line.calls = None;
            // Whoever waits sees the other end dropped.
            line.waiting.clear();
        }
    }
}

impl Remote {
    /// Whether a rule may strike once more, in the whole run.
    pub(crate) async fn permit(&self, rule: usize) -> bool {
        let asked = ServiceCall {
            service: "",
            operation: PERMIT,
            idempotency_key: Arc::from(""),
            fencing_token: rule as u64,
            payload: Bytes::new(),
        };
        self.call(asked).await.is_ok()
    }
}

impl Service for Remote {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        let service = call.service;
        let answered = self.send(&call).await;
        let answered = answered.map_err(|reason| ServiceError::Unavailable { service, reason })?;
        match answered.await {
            Ok(Told::Reply(payload)) => Ok(ServiceReply { payload }),
            Ok(Told::Unavailable(reason)) => Err(ServiceError::Unavailable { service, reason }),
            Ok(Told::InDoubt(reason)) => Err(ServiceError::InDoubt { service, reason }),
            Ok(Told::Refused(reason)) => Err(ServiceError::Refused { service, reason }),
            Err(_) => Err(ServiceError::InDoubt {
                service,
                reason: "the connection was cut after the request was sent".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers to what it is asked, and hangs where it is told to.
    #[derive(Clone, Debug)]
    struct Echo;

    impl Service for Echo {
        async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
            let service = call.service;
            match call.operation {
                "refuse" => Err(ServiceError::Refused {
                    service,
                    reason: "no".to_owned(),
                }),
                "hang" => std::future::pending().await,
                _ => Ok(ServiceReply {
                    payload: call.payload,
                }),
            }
        }
    }

    fn call(operation: &'static str) -> ServiceCall {
        ServiceCall {
            service: "payments",
            operation,
            idempotency_key: Arc::from("order-1"),
            fencing_token: 7,
            payload: Bytes::from_static(b"{}"),
        }
    }

    fn limited(limits: &[u32]) -> Permits {
        Permits(Arc::new(Mutex::new(limits.to_vec())))
    }

    #[tokio::test]
    async fn answers_come_back_to_their_calls() {
        let address = serve(Echo, limited(&[])).await.expect("a port");
        let remote = Remote::new(address);
        let calls = (0..50).map(|_| remote.call(call("echo")));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.map(|it| it.payload), Ok(Bytes::from_static(b"{}")));
        }
        let refused = remote.call(call("refuse")).await;
        assert!(matches!(
            refused,
            Err(ServiceError::Refused {
                service: "payments",
                ..
            })
        ));
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_leaves_its_calls_in_doubt() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a caller");
            let (mut from, _to) = stream.into_split();
            // It has the call; then it is gone.
            read::<Call>(&mut from).await.expect("a call");
        });
        let remote = Remote::new(address);
        let answer = remote.call(call("echo")).await;
        assert!(
            matches!(answer, Err(ServiceError::InDoubt { .. })),
            "{answer:?}"
        );
        server.await.expect("it ends");
        let answer = remote.call(call("echo")).await;
        assert!(
            matches!(answer, Err(ServiceError::Unavailable { .. })),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn one_call_that_hangs_holds_no_other_up() {
        let address = serve(Echo, limited(&[])).await.expect("a port");
        let remote = Remote::new(address);
        let hanging = tokio::time::timeout(Duration::from_secs(60), remote.call(call("hang")));
        tokio::select! {
            _ = hanging => panic!("it hangs"),
            answer = remote.call(call("echo")) => assert!(answer.is_ok()),
        }
    }

    #[tokio::test]
    async fn a_limit_holds_for_all_processes() {
        let address = serve(Echo, limited(&[u32::MAX, 3])).await.expect("a port");
        let (one, other) = (Remote::new(address), Remote::new(address));
        let mut permitted = 0;
        for _ in 0..4 {
            permitted += u32::from(one.permit(1).await) + u32::from(other.permit(1).await);
        }
        assert_eq!(permitted, 3);
        assert!(one.permit(0).await && !one.permit(2).await);
    }
}
