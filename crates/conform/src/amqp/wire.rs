//! A connection on the level of frames.
//!
//! A client library sorts what it reads into confirms, consumers and replies, and with that the
//! order in which the broker said it is lost. Here it is kept, nothing is retried or guessed, and
//! a connection can be cut without a goodbye. The codec is lapin's own.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use lapin::protocol::basic::{AMQPProperties, gen_properties, parse_properties};
use lapin::protocol::{AMQPClass, basic, channel, connection, gen_class, parse_class};
use lapin::types::{FieldTable, LongString, ShortString};
use lapin::uri::AMQPUri;

use crate::Failure;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;

/// The bound of every wait for a reply: only met when something hangs.
const BOUND: Duration = Duration::from_secs(20);

/// Something the broker said, whole: a method with its content, if it has one.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) channel: u16,
    pub(super) method: AMQPClass,
    pub(super) content: Option<(AMQPProperties, Vec<u8>)>,
}

/// A method that still waits for the rest of its content.
struct Partial {
    heard: Heard,
    missing: Option<u64>,
}

/// A connection after its handshake.
pub(super) struct Wire {
    stream: TcpStream,
    sending: Vec<u8>,
    partial: BTreeMap<u16, Partial>,
}

fn strange(what: impl std::fmt::Debug) -> Failure {
    Failure(format!(
        "the broker said what was not to be expected: {what:?}"
    ))
}

pub(super) fn lost(error: io::Error) -> Failure {
    Failure(format!("the broker does not answer: {error}"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Wire {
    pub(super) fn connect(uri: &AMQPUri) -> Result<Self, Failure> {
        let at = (uri.authority.host.as_str(), uri.authority.port);
        let stream = TcpStream::connect(at).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        stream.set_read_timeout(Some(BOUND)).map_err(lost)?;
        let mut wire = Self {
            stream,
            sending: b"AMQP\x00\x00\x09\x01".to_vec(),
            partial: BTreeMap::new(),
        };
        wire.shake_hands(uri)?;
        Ok(wire)
    }

    fn shake_hands(&mut self, uri: &AMQPUri) -> Result<(), Failure> {
        use connection::AMQPMethod::{OpenOk, Start, Tune};
        let AMQPClass::Connection(Start(_)) = self.read().map_err(lost)?.method else {
            return Err(strange("no connection.start"));
        };
        let user = &uri.authority.userinfo;
        // Only with these does the broker tell of consumers it cancels, and of nacks.
        let mut able = FieldTable::default();
        for name in ["consumer_cancel_notify", "publisher_confirms", "basic.nack"] {
            able.insert(name.into(), true.into());
        }
        let mut properties = FieldTable::default();
        properties.insert("capabilities".into(), able.into());
        self.send(
            0,
            AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
                client_properties: properties,
                mechanism: "PLAIN".into(),
                response: LongString::from(format!("\0{}\0{}", user.username, user.password)),
                locale: "en_US".into(),
            })),
        );
        let AMQPClass::Connection(Tune(tune)) = self.read().map_err(lost)?.method else {
            return Err(strange("no connection.tune"));
        };
        // No heartbeat: programs are short, and a lane that shrinks or sleeps does not read.
        let tuned = connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: tune.frame_max,
            heartbeat: 0,
        };
        self.send(
            0,
            AMQPClass::Connection(connection::AMQPMethod::TuneOk(tuned)),
        );
        let virtual_host = ShortString::from(uri.vhost.as_str());
        let open = connection::Open { virtual_host };
        self.send(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)));
        match self.read().map_err(lost)?.method {
            AMQPClass::Connection(OpenOk(_)) => Ok(()),
            other => Err(strange(other)),
        }
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.sending.push(kind);
        self.sending.extend(channel.to_be_bytes());
        self.sending.extend((payload.len() as u32).to_be_bytes());
        self.sending.extend(payload);
        self.sending.push(END);
    }

    /// Queues a method; [`Wire::flush`] or the next read sends it.
    pub(super) fn send(&mut self, channel: u16, method: AMQPClass) {
        let made = gen_class::<Vec<u8>>(&method)(Vec::new().into());
        let (payload, _) = made.expect("a vector takes all").into_inner();
        self.frame(METHOD, channel, &payload);
    }

    /// Queues a method with its content.
    pub(super) fn send_content(
        &mut self,
        channel: u16,
        method: AMQPClass,
        properties: &AMQPProperties,
        body: &[u8],
    ) {
        self.send(channel, method);
        let mut payload = 60_u16.to_be_bytes().to_vec();
        payload.extend([0, 0]);
        payload.extend((body.len() as u64).to_be_bytes());
        let made = gen_properties::<Vec<u8>>(properties)(Vec::new().into());
        payload.extend(made.expect("a vector takes all").into_inner().0);
        self.frame(HEADER, channel, &payload);
        if !body.is_empty() {
            self.frame(BODY, channel, body);
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let sending = std::mem::take(&mut self.sending);
        self.stream.write_all(&sending)
    }

    /// Sends what is queued, then ends the connection without a word. What the broker has not
    /// read by then may be lost, and so may what it was about to say.
    pub(super) fn cut(mut self) {
        // An error means that the other side was faster.
        let _ = self.flush();
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The next thing the broker says. An error is the end of the connection.
    pub(super) fn read(&mut self) -> io::Result<Heard> {
        self.flush()?;
        loop {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head)?;
            let channel = u16::from_be_bytes([head[1], head[2]]);
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut payload = vec![0; size + 1];
            self.stream.read_exact(&mut payload)?;
            if payload.pop() != Some(END) {
                return Err(invalid("a frame without an end"));
            }
            if let Some(heard) = self.part(head[0], channel, &payload)? {
                return Ok(heard);
            }
        }
    }

    fn part(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<Option<Heard>> {
        match kind {
            METHOD => {
                let parsed = parse_class(payload);
                let (_, method) = parsed.map_err(|_| invalid("a method that cannot be read"))?;
                let heard = Heard {
                    channel,
                    method,
                    content: None,
                };
                if !has_content(&heard.method) {
                    return Ok(Some(heard));
                }
                let missing = None;
                self.partial.insert(channel, Partial { heard, missing });
            }
            HEADER => {
                let Some(partial) = self.partial.get_mut(&channel) else {
                    return Err(invalid("content without a method"));
                };
                let (size, rest) = payload
                    .get(4..)
                    .and_then(|rest| rest.split_first_chunk::<8>())
                    .ok_or_else(|| invalid("a short header"))?;
                let parsed = parse_properties(rest);
                let (_, properties) = parsed.map_err(|_| invalid("strange properties"))?;
                partial.heard.content = Some((properties, Vec::new()));
                partial.missing = Some(u64::from_be_bytes(*size));
            }
            BODY => {
                let partial = self.partial.get_mut(&channel);
                let Some(partial) = partial.filter(|partial| partial.missing.is_some()) else {
                    return Err(invalid("a body without a header"));
                };
                if let (Some((_, body)), Some(missing)) =
                    (&mut partial.heard.content, &mut partial.missing)
                {
                    body.extend(payload);
                    *missing = missing.saturating_sub(payload.len() as u64);
                }
            }
            HEARTBEAT => {}
            _ => return Err(invalid("a frame of an unknown kind")),
        }
        let whole = |partial: &Partial| partial.missing == Some(0);
        if self.partial.get(&channel).is_some_and(whole) {
            return Ok(self.partial.remove(&channel).map(|partial| partial.heard));
        }
        Ok(None)
    }

    /// Takes leave in order, as far as the broker still listens.
    pub(super) fn close(mut self) {
        let close = connection::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            class_id: 0,
            method_id: 0,
        };
        self.send(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Close(close)),
        );
        while let Ok(heard) = self.read() {
            if let AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)) = heard.method {
                break;
            }
        }
    }
}

fn has_content(method: &AMQPClass) -> bool {
    use basic::AMQPMethod::{Deliver, GetOk, Return};
    let AMQPClass::Basic(method) = method else {
        return false;
    };
    matches!(method, Deliver(_) | GetOk(_) | Return(_))
}

/// `channel.close` of ours.
pub(super) fn close_channel() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
        reply_code: 200,
        reply_text: "bye".into(),
        class_id: 0,
        method_id: 0,
    }))
}
