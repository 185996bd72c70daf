//! A key: how it is configured, and how its file is read. A secret is never shown, logged or given inline.

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{DecodingKey, Validation};
use std::{
    fmt, fs,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

/// A longer key file is refused.
const MAX_FILE: u64 = 8192;
/// RFC 7518, 3.2: a key of HS256 has at least the 256 bits of its hash.
const MIN_SECRET: usize = 32;
/// RFC 8410: what stands before the 32 bytes of an Ed25519 public key.
const ED25519_SPKI: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Who else but owner and group.
const OTHERS: u32 = 0o007;
const OTHERS_WRITE: u32 = 0o002;

/// How tokens of a key are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: a shared secret.
    Hs256,
    /// Ed25519: the agent has the public key only.
    EdDsa,
}

impl Algorithm {
    /// Its JWA name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    pub(super) fn of_jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One of `tokens.keys`: ID:ALGORITHM:FILE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The `kid` of its tokens.
    pub id: String,
    /// What its tokens are signed with.
    pub algorithm: Algorithm,
    /// Where it lies.
    pub path: PathBuf,
}

impl FromStr for KeyFile {
    type Err = ();

    fn from_str(text: &str) -> Result<KeyFile, ()> {
        let mut parts = text.splitn(3, ':');
        let (Some(id), Some(algorithm), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(());
        };
        let algorithm = match algorithm {
            "HS256" => Algorithm::Hs256,
            "EdDSA" => Algorithm::EdDsa,
            _ => return Err(()),
        };
        let is_id = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        let path = Path::new(path);
        if !is_id || !path.is_absolute() || text.contains('\0') {
            return Err(());
        }
        Ok(KeyFile {
            id: id.to_owned(),
            algorithm,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.id, self.algorithm, self.path.display())
    }
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMistake {
    /// As configured.
    pub key: String,
    /// What is wrong with its file, and what is allowed.
    pub problem: String,
}

/// A key that was read.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    /// Shows itself as `[redacted]`.
    pub(super) secret: DecodingKey,
    pub(super) validation: Validation,
}

/// Reads a key's file. The error says what is wrong, and what is allowed.
pub(super) fn read(file: &KeyFile) -> Result<Key, String> {
    let bytes = bytes(file)?;
    let secret = match file.algorithm {
        Algorithm::Hs256 => DecodingKey::from_secret(secret(&bytes)?),
        Algorithm::EdDsa => DecodingKey::from_ed_der(&public_key(&bytes)?),
    };
    Ok(Key {
        id: file.id.clone(),
        algorithm: file.algorithm,
        secret,
        validation: signature_only(file.algorithm),
    })
}

/// Signature and algorithm. What the claims must say is in `claims`, where time is an argument and a refusal tells why.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm.of_jwt());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn bytes(file: &KeyFile) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("its file cannot be read: {e}");
    // Not blocking: a pipe by that name must not hold the agent up.
    let mut options = fs::OpenOptions::new();
    let open = options.read(true).custom_flags(libc::O_NONBLOCK).open(&file.path);
    let open = open.map_err(cannot)?;
    let metadata = open.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is not a file".into());
    }
    let mode = metadata.mode() & 0o7777;
    let name = file.path.display();
    match file.algorithm {
        Algorithm::Hs256 if mode & OTHERS != 0 => {
            return Err(format!(
                "its file has mode {mode:04o}: everybody on this host gets at the secret; chmod o= {name}"
            ));
        }
        Algorithm::EdDsa if mode & OTHERS_WRITE != 0 => {
            return Err(format!(
                "its file has mode {mode:04o}: everybody on this host can put another key there; chmod o-w {name}"
            ));
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    open.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("its file is longer than {MAX_FILE} bytes; no key is"));
    }
    Ok(bytes)
}

/// One line of visible ASCII: whether a newline at the end of binary bytes belongs to them, nobody could say.
fn secret(bytes: &[u8]) -> Result<&[u8], String> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() < MIN_SECRET || !line.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "its file does not hold a secret: allowed is one line of at least {MIN_SECRET} visible ASCII characters, whose bytes \
             are the secret, such as from `openssl rand -hex 32`"
        ));
    }
    Ok(line)
}

/// PEM, as `openssl pkey -pubout` writes it.
fn public_key(bytes: &[u8]) -> Result<[u8; 32], String> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("PRIVATE KEY") {
        return Err(
            "its file holds a private key, which belongs to the business server only: `openssl pkey -in FILE -pubout` gives the \
             public one"
                .into(),
        );
    }
    let body = text
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
        .map(|body| body.split_ascii_whitespace().collect::<String>());
    let key = body
        .and_then(|body| STANDARD.decode(body).ok())
        .and_then(|der| der.strip_prefix(ED25519_SPKI)?.try_into().ok());
    key.ok_or_else(|| {
        "its file does not hold an Ed25519 public key: allowed is PEM that begins with -----BEGIN PUBLIC KEY-----, as from \
         `openssl pkey -in PRIVATE -pubout`"
            .into()
    })
}
