//! HTTP as far as InfluxDB needs it: one request a connection (HTTP/1.0, so that answers come whole), every wait bounded, and
//! all of them together.

use super::Settings;
use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    str::FromStr,
    time::{Duration, Instant},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Of each read and write.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Of a request in all, however often a byte comes: whoever ends waits for one that is under way.
const DONE_WITHIN: Duration = Duration::from_secs(10);
/// A longer answer is cut off, and an error.
const MAX_ANSWER: u64 = 64 << 20;

/// `http://HOST:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = ();

    fn from_str(text: &str) -> Result<Address, ()> {
        let (host, port) = text
            .strip_prefix("http://")
            .and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'))
            .ok_or(())?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(())?;
        (!host.is_empty() && host.bytes().all(ok))
            .then(|| Address {
                host: host.into(),
                port,
            })
            .ok_or(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

/// What the server said.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A way to the server. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    address: Address,
    database: String,
    user: Option<(String, String)>,
    keep: Duration,
    /// All requests end by then.
    until: Option<Instant>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Client {
        Client {
            address: settings.address.clone(),
            database: settings.database.clone(),
            user: settings.user.clone(),
            keep: settings.max_age,
            until: None,
        }
    }

    /// The same, whose requests end by then, all of them together.
    pub(super) fn until(&self, until: Instant) -> Client {
        Client {
            until: Some(until),
            ..self.clone()
        }
    }

    /// Writes a batch of compressed lines.
    pub(super) fn write(&self, gzip: &[u8]) -> io::Result<Said> {
        let target = format!("/write?precision=ms&{}", self.parameters());
        self.request(&target, "Content-Encoding: gzip\r\n", gzip)
    }

    /// Asks in InfluxQL.
    pub(super) fn query(&self, question: &str) -> io::Result<Said> {
        let target = format!("/query?epoch=ms&{}", self.parameters());
        let body = format!("q={}", encoded(question));
        self.request(
            &target,
            "Content-Type: application/x-www-form-urlencoded\r\n",
            body.as_bytes(),
        )
    }

    /// Makes the database, if it is not there.
    pub(super) fn make_database(&self) -> io::Result<Said> {
        let hours = self.keep.as_secs().div_ceil(3600).max(1);
        self.query(&format!(
            "CREATE DATABASE {} WITH DURATION {hours}h",
            identifier(&self.database)
        ))
    }

    fn parameters(&self) -> String {
        let database = format!("db={}", encoded(&self.database));
        match &self.user {
            None => database,
            Some((name, password)) => format!("{database}&u={}&p={}", encoded(name), encoded(password)),
        }
    }

    fn request(&self, target: &str, header: &str, body: &[u8]) -> io::Result<Said> {
        let until = Instant::now() + DONE_WITHIN;
        let mut stream = self.connect(self.until.map_or(until, |end| end.min(until)))?;
        let head = format!(
            "POST {target} HTTP/1.0\r\nHost: {}\r\n{header}Content-Length: {}\r\n\r\n",
            self.address.host,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        // A server that refuses early may not read it all; its answer says why.
        let sent = stream.write_all(body);
        let mut answer = Vec::new();
        let read = stream.take(MAX_ANSWER + 1).read_to_end(&mut answer);
        if answer.is_empty() {
            sent?;
        }
        read?;
        said(&answer)
    }

    fn connect(&self, until: Instant) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in (self.address.host.as_str(), self.address.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, wait(CONNECT_WITHIN, until)?) {
                Ok(stream) => return Ok(Connection { stream, until }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A connection that is waited for no longer than until then, however slowly the other side goes on.
struct Connection {
    stream: TcpStream,
    until: Instant,
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream
            .set_read_timeout(Some(wait(ANSWER_WITHIN, self.until)?))?;
        self.stream.read(buffer).map_err(in_words)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream
            .set_write_timeout(Some(wait(ANSWER_WITHIN, self.until)?))?;
        self.stream.write(bytes).map_err(in_words)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The next wait: never zero, which the system refuses.
fn wait(most: Duration, until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(in_words(io::ErrorKind::TimedOut.into()));
    }
    Ok(left.min(most))
}

/// A wait that ended is "Resource temporarily unavailable" to the system.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            "it takes connections, but does not answer in time",
        ),
        _ => error,
    }
}

fn said(answer: &[u8]) -> io::Result<Said> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if answer.len() as u64 > MAX_ANSWER {
        return Err(wrong("the answer is too long"));
    }
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| wrong("the answer is no HTTP, or cut short"))?;
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| wrong("the answer is no HTTP"))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| body.len() < length) {
        return Err(wrong("the answer is cut short"));
    }
    Ok(Said {
        status,
        body: body.into(),
    })
}

fn encoded(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|b| {
            if plain(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// A name in InfluxQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text in InfluxQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
